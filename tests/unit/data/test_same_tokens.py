"""One conversation gives the same tokens, whatever format and file it is written in."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, disable_progress_bars, enable_progress_bars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.data.conftest import CHATML
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig, SourceConfig
from tunery.data.layouts.convert import to_conversations
from tunery.data.reading.load import load_rows
from tunery.data.rendering.encode import encode_all
from tunery.records.rows import Example

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Talk:
    """What every format is to hold."""

    turns: Sequence[tuple[str, str]]  # prompts and answers
    system: str = ""
    reasoning: str = ""  # before the last answer
    tools: Sequence[Row] = ()
    arguments: Row | None = None  # of a call before the last answer, and "result" as what it returned


# ---- formats


def beside(talk: Talk) -> Row:
    columns = {"system": talk.system, "tools": list(talk.tools)}
    return {name: value for name, value in columns.items() if value}


def last(talk: Talk) -> Row:
    return {"reasoning": talk.reasoning} if talk.reasoning else {}


def instruction(prompt: str, completion: str) -> Callable[[Talk], Row]:
    def write(talk: Talk) -> Row:
        *history, (question, answer) = talk.turns
        earlier = {"history": [list(pair) for pair in history]} if history else {}
        return {prompt: question, completion: answer, **earlier, **beside(talk), **last(talk)}

    return write


def messages(talk: Talk) -> Sequence[Row]:
    *history, (question, answer) = talk.turns
    turns = [turn for pair in history for turn in zip(("user", "assistant"), pair, strict=True)]
    written: list[Row] = [{"role": role, "content": text} for role, text in [*turns, ("user", question)]]
    if talk.arguments is not None:
        call = {"type": "function", "function": {"name": "weather", "arguments": talk.arguments}}
        written += [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "result"}]
    return [*written, {"role": "assistant", "content": answer, **last(talk)}]


def prompt_completion(talk: Talk) -> Row:
    *prompt, completion = messages(talk)
    return {"prompt": prompt, "completion": [completion], **beside(talk)}


def sharegpt(talk: Talk) -> Row:
    speakers = {"user": "human", "assistant": "gpt", "tool": "observation"}
    turns = []
    for turn in messages(talk):
        if calls := turn.get("tool_calls"):
            turns.append({"from": "function_call", "value": json.dumps(calls[0]["function"])})
        else:
            own = {key: value for key, value in turn.items() if key == "reasoning"}
            turns.append({"from": speakers[turn["role"]], "value": turn["content"], **own})
    return {"conversations": turns, **beside(talk)}


def lima(talk: Talk) -> Row:
    return {"conversations": [text for pair in talk.turns for text in pair], **beside(talk), **last(talk)}


def openai(talk: Talk) -> Row:
    functions = {"functions": [tool["function"] for tool in talk.tools]} if talk.tools else {}
    system = [{"role": "system", "content": talk.system}] if talk.system else []
    return {"messages": [*system, *messages(talk)], **functions}


PAIRS = {
    "alpaca": instruction("instruction", "output"),
    "prompt and completion as texts": instruction("prompt", "completion"),
    "question and answer": instruction("Question", "Answer"),
    "lima": lima,
}
CALLING = {
    "sharegpt": sharegpt,
    "messages": lambda talk: {"messages": messages(talk), **beside(talk)},
    "OpenAI's older form": openai,
    "prompt and completion as turns": prompt_completion,
}


# ---- files


def cells(row: Row, columns: Sequence[str]) -> list[str]:
    values = [row.get(column, "") for column in columns]
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def as_json(rows: Sequence[Row], file: Path) -> None:
    file.write_text(json.dumps(rows))


def as_jsonl(rows: Sequence[Row], file: Path) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_csv(rows: Sequence[Row], file: Path) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([columns, *(cells(row, columns) for row in rows)])


def as_xlsx(rows: Sequence[Row], file: Path) -> None:
    book = openpyxl.Workbook()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for row in [columns, *(cells(row, columns) for row in rows)]:
        book.active.append(row)
    book.save(file)


def table(rows: Sequence[Row]) -> pa.Table:
    """The rows with the nulls that pad structs; the last of them, full, decides the order of members."""
    return pa.Table.from_pylist([rows[-1], *rows[:-1]]).slice(1)


def as_parquet(rows: Sequence[Row], file: Path) -> None:
    pq.write_table(table(rows), file)


def as_saved(rows: Sequence[Row], file: Path) -> None:
    Dataset(table(rows)).save_to_disk(file)


FILES = {
    "rows.json": as_json,
    "rows.jsonl": as_jsonl,
    "rows.csv": as_csv,
    "rows.xlsx": as_xlsx,
    "rows.parquet": as_parquet,
    "saved": as_saved,
}

# ---- the property

# Nothing that a spreadsheet cannot hold, takes for a formula, or that is JSON.
TEXTS = st.text("abz AZ019.,;:!?'\"<>|/\\-_\n\t\u00e4\u6f22\U0001f600", min_size=1, max_size=12).filter(str.strip)
ANSWERS = TEXTS | st.sampled_from(["2020-01-01", "2020-01-01T10:00:00+02:00", "007", "NA", "null", "true", "1.0"])
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {key: kind}}}}
    for name, key, kind in (("weather", "city", {"type": "string"}), ("calendar", "days", {"type": "integer"}))
]
FULL = Talk([("q0", "a0"), ("q", "a")], "system", "thought", TOOLS, {"city": "Rome", "days": 3})


@st.composite
def talks(draw: st.DrawFn, calling: bool) -> Talk:
    arguments = st.fixed_dictionaries({}, optional={"city": TEXTS, "days": st.integers(0, 9)})
    some: Row | None = draw(arguments | st.none()) if calling else None
    return Talk(
        draw(st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=2)),
        draw(TEXTS | st.just("")),
        draw(TEXTS | st.just("")),
        draw(st.lists(st.sampled_from(TOOLS), max_size=2)),
        None if some is None else {key: some[key] for key in ("city", "days") if key in some},
    )


@pytest.fixture(scope="module")
def chatml(trained_tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=trained_tokenizer, bos_token="<s>", eos_token="<|im_end|>")
    fast.chat_template = CHATML
    return fast


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Any:
    disable_progress_bars()
    yield
    enable_progress_bars()


def tokens(rows: Sequence[Row], name: str, tokenizer: PreTrainedTokenizerFast) -> list[tuple[Any, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        FILES[name](rows, Path(folder) / name)
        source = SourceConfig(source=name)
        converted = to_conversations(load_rows(source, Path(folder)), source, 0)
    assert converted.bad == []
    assert converted.unused == {}
    config = DataConfig.model_validate({"train": [{"source": name}], "max_length": 100_000})
    made = encode_all(converted.conversations, tokenizer, config, "assistant").results
    return [(each.input_ids, each.trained) for each in made if isinstance(each, Example)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_same_conversations_give_the_same_tokens(chatml: PreTrainedTokenizerFast, data: st.DataObject) -> None:
    calling = data.draw(st.booleans())
    said = [
        *data.draw(st.lists(talks(calling), min_size=1, max_size=2)),
        FULL if calling else replace(FULL, arguments=None),
    ]
    formats = CALLING if calling else {**PAIRS, **CALLING}
    pairs = st.lists(
        st.tuples(st.sampled_from(sorted(formats)), st.sampled_from(sorted(FILES))), min_size=2, max_size=2, unique=True
    )
    one, other = (tokens([formats[name](talk) for talk in said], file, chatml) for name, file in data.draw(pairs))
    assert len(one[: len(said) - 1]) == len(said) - 1
    assert one[: len(said) - 1] == other[: len(said) - 1]
