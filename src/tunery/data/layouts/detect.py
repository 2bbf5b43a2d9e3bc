"""Recognising a source's format from its columns and the first values in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tunery.config.data import RowSource
from tunery.data.layouts.fields import CONTEXT, REJECTED, UnusableRow, folded, spelled
from tunery.data.layouts.messages import dialogue, is_turn
from tunery.data.layouts.preferences import has_pairs, refuse_pairs
from tunery.data.layouts.rivals import rival_of
from tunery.data.reading.rows import Row, Rows, is_blank
from tunery.errors import DataError, Fault

# Spellings, as `fields.folded` writes them.
INSTRUCTION, INPUT, OUTPUT = ("instruction",), ("input", "context"), ("output", "response")
PROMPT, COMPLETION = ("prompt",), ("completion",)
_PROMPTS = ("question", "prompt", "query", "instruction", "input", "problem", "user", "human")
ANSWERS = ("answer", "response", "output", "completion", "solution", "reply", "assistant", "generation")
_USUAL = ("messages", "conversations")
# A list of texts is a conversation under these names alone: anywhere else it may be options, tags or steps.
_DIALOGUES = (*_USUAL, "conversation", "dialog", "dialogue", "turns", "utterances", "chat", "data")


@dataclass(frozen=True)
class Detected:
    """How a source's rows are laid out."""

    format: str
    turns: str = ""  # the column of turns
    columns: Mapping[str, str] = field(default_factory=dict)  # of prompt and completion, for the format columns
    notes: Sequence[str] = ()  # what it was recognised by


def format_of(rows: Rows, source: RowSource) -> Detected:
    """The format that the project names, or the one that the columns show.

    Raises:
        DataError: If it cannot be detected; the message lists the columns and what to write. Also for preference data.
    """
    if source.columns is not None:
        if source.format not in ("auto", "columns"):
            rule = "columns or auto when columns are given"
            raise DataError(source.source, Fault("format", rule, source.format, "Leave one of them out."))
        return Detected("columns", columns={str(role): column for role, column in source.columns.items()})
    if source.format == "auto":
        return _detect(rows)
    if source.format in ("alpaca", "prompt-completion"):
        return Detected(source.format)
    return Detected(source.format, _dialogue_column(source.format, rows))


def _detect(rows: Rows) -> Detected:
    turns = _turn_columns(rows)
    usual = [column for column in _USUAL if column in turns]
    if usual:
        first = dialogue(first_value(rows.rows, usual[0]), usual[0])
        asks = ends_with_question(first)
        if not (has_pairs(rows) and asks):
            return _of_turns(rows, usual[0], turns, spelled(rows.columns, ANSWERS) if asks else ())
    # Before other columns of turns: TRL's prompt and completion may themselves be lists of messages.
    for name, needed in (("alpaca", (INSTRUCTION, OUTPUT)), ("prompt-completion", (PROMPT, COMPLETION))):
        found = [spelled(rows.columns, names)[:1] for names in needed]
        if all(found):
            _refuse_rivals(rows, name)
            return Detected(name, notes=[_note(rows, name, f"columns {' and '.join(repr(each[0]) for each in found)}")])
    if has_pairs(rows):
        raise refuse_pairs(rows, turns)
    pair = _pair(rows)
    if pair or not turns:
        return pair or _refuse(rows)
    if len(turns) > 1:
        rule = f"several columns hold turns ({', '.join(turns)}), and only one can be learned"
        raise DataError(rows.source, Fault("format cannot be detected", rule, advice="Name it 'messages'."))
    return _of_turns(rows, next(iter(turns)), turns)


def _turn_columns(rows: Rows, lists_of_texts: Sequence[str] = _DIALOGUES) -> dict[str, str]:
    """Columns whose first value is a list of turns -> its format; never rejected answers."""
    kinds = {column: kind_of_dialogue(first_value(rows.rows, column)) for column in rows.columns}
    return {
        column: kind
        for column, kind in kinds.items()
        if kind and folded(column) not in REJECTED and (kind != "lima" or folded(column) in lists_of_texts)
    }


def first_value(rows: Sequence[Row], column: str) -> Any:
    """The first value of a column that is not blank, or None."""
    return next((row.values[column] for row in rows if not is_blank(row.values.get(column))), None)


def kind_of_dialogue(value: Any) -> str:
    """Which format a list of turns has; the empty text when it is none."""
    try:
        turns = dialogue(value, "")
    except UnusableRow:
        return ""
    if turns and is_turn(turns[0]):
        return "sharegpt" if "from" in turns[0] else "messages"
    return "lima" if turns and all(isinstance(turn, str) for turn in turns) else ""


_SEEN = {
    "sharegpt": "turns with from and value",
    "messages": "turns with role and content",
    "lima": "turns that are plain texts",
}


def _of_turns(rows: Rows, column: str, turns: Mapping[str, str], answers: Sequence[str] = ()) -> Detected:
    name = turns[column]
    beside = f", with the last answer in {answers[0]!r}" if answers else ""
    return Detected(name, column, notes=[_note(rows, name, f"column {column!r} ({_SEEN[name]}){beside}")])


def ends_with_question(turns: Sequence[Any]) -> bool:
    """Whether the last turn is the user's, so that the answer stands elsewhere."""
    last = turns[-1] if turns else None
    return isinstance(last, Mapping) and str(last.get("role", last.get("from"))).casefold() in ("user", "human")


def _refuse_rivals(rows: Rows, name: str) -> None:
    """Refuse a further column that can be the prompt or the answer: only a person knows which one is meant."""
    alpaca = name == "alpaca"
    for role, read, names in (
        ("prompt", (*INSTRUCTION, *INPUT) if alpaca else PROMPT, _PROMPTS),
        ("completion", OUTPUT if alpaca else COMPLETION, ANSWERS),
    ):
        own = spelled(rows.columns, read)
        if rival := rival_of(rows.rows, own, spelled(rows.columns, set(names) - set(read))):
            rule = f"{own[0]!r} and {rival!r} can both be the {role}"
            advice = f"Set format: {name} to leave {rival!r} out, or columns, with a prompt_template to join both."
            raise DataError(rows.source, Fault("format cannot be detected", rule, advice=advice))


def _note(rows: Rows, name: str, seen: str) -> str:
    return f"{rows.source}: format {name}, detected from {seen}."


def _pair(rows: Rows) -> Detected | None:
    """Columns such as Question and Answer, where nothing else could be meant."""
    prompts, answers = spelled(rows.columns, _PROMPTS), spelled(rows.columns, ANSWERS)
    if not prompts or not answers:
        return None
    for role, found in (("prompt", prompts), ("completion", answers)):
        if len(found) > 1:
            rule = f"several columns can be the {role}: {', '.join(found)}; the columns are {listed(rows.columns)}"
            raise DataError(rows.source, Fault("format cannot be detected", rule, advice=suggest(rows.columns)))
    prompt, completion = prompts[0], answers[0]
    if context := [each for each in spelled(rows.columns, CONTEXT) if first_value(rows.rows, each) is not None]:
        rule = f"{context[0]!r} may belong to {prompt!r}"
        alone = f"columns: {as_columns(prompt, completion)}"
        both = f'columns: {{completion: {completion}}}, prompt_template: "{{{context[0]}}}\\n\\n{{{prompt}}}"'
        is_text = isinstance(first_value(rows.rows, context[0]), str)
        advice = f"Set {both if is_text else 'a column that holds both'}, or {alone} to leave it out."
        raise DataError(rows.source, Fault("format cannot be detected", rule, advice=advice))
    seen = f"columns {prompt!r}, the prompt, and {completion!r}, the completion"
    columns = {"prompt": prompt, "completion": completion}
    return Detected("columns", columns=columns, notes=[_note(rows, "columns", seen)])


def _refuse(rows: Rows) -> Detected:
    seen = f"the columns are {listed(rows.columns)}"
    raise DataError(rows.source, Fault("format cannot be detected", seen, advice=suggest(rows.columns)))


def _dialogue_column(name: str, rows: Rows) -> str:
    """The column that holds the turns: the usual one, or the only one whose values are turns."""
    usual = "messages" if name == "messages" else "conversations"
    if usual in rows.columns:
        return usual
    found = _turn_columns(rows, [folded(column) for column in rows.columns])
    of_kind = [column for column, kind in found.items() if kind == name]
    if len(of_kind) == 1:
        return of_kind[0]
    several = f" and {', '.join(of_kind)} all hold turns" if of_kind else ""
    rule = f"needs a column {usual!r} with a list of turns; the columns are {listed(rows.columns)}{several}"
    raise DataError(rows.source, Fault(f"format {name}", rule))


def suggest(columns: Sequence[str]) -> str:
    """What to write in project.yaml for these columns, filled in where their names tell which is which."""
    prompt, completion = (
        (spelled(columns, names) or ["<column>"])[0] for names in ((*_PROMPTS, "text"), (*ANSWERS, "label"))
    )
    return f"Set columns: {as_columns(prompt, completion)}."


def as_columns(prompt: str, completion: str) -> str:
    """The value of the key `columns` as YAML in one line: a name with a comma, say, is quoted."""
    columns = {"prompt": prompt, "completion": completion}
    text: str = yaml.safe_dump(columns, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.strip()


def listed(columns: Sequence[str]) -> str:
    """Names of columns with commas between them; one that holds a comma is quoted."""
    return ", ".join(repr(name) if "," in name else name for name in columns)
