"""One converter a format: from a row's values to messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunery.config.data import SourceConfig
from tunery.data.detect import first_value, kind_of_dialogue, suggest
from tunery.data.messages import UnusableRow, dialogue, read_turns, text_of, tools_text, with_system
from tunery.data.prompt_template import PromptTemplate, check_columns, parse_template
from tunery.data.rows import Rows
from tunery.errors import DataError, Fault
from tunery.records import Message

Convert = Callable[[Mapping[str, Any]], Sequence[Message]]
"""Raises UnusableRow with the reason when a row cannot be used."""


def converter(name: str, rows: Rows, source: SourceConfig) -> Convert:
    """The converter of a format.

    Args:
        name: The format, named or detected.
        rows: The source's rows, for the columns that there are.
        source: Its columns and template.

    Raises:
        DataError: When the format needs columns that are not there.
    """
    if name == "columns":
        return _columns(rows, source)
    if name in ("alpaca", "prompt-completion"):
        needed = {"alpaca": ("instruction", "output"), "prompt-completion": ("prompt", "completion")}[name]
        _need(rows, name, needed)
        return _alpaca if name == "alpaca" else _prompt_completion
    column = _dialogue_column(name, rows)
    return {"sharegpt": _sharegpt, "messages": _messages, "lima": _lima}[name](column)


def _need(rows: Rows, name: str, columns: Sequence[str]) -> None:
    if not set(columns) <= set(rows.columns):
        rule = f"needs the columns {', '.join(columns)}; the columns are {', '.join(rows.columns)}"
        raise DataError(rows.source, Fault(f"format {name}", rule, advice=suggest(rows.columns)))


def _dialogue_column(name: str, rows: Rows) -> str:
    """The column that holds the turns: the usual one, or the first whose values are turns of this kind."""
    usual = {"sharegpt": "conversations", "messages": "messages", "lima": "conversations"}[name]
    if usual in rows.columns:
        return usual
    for column in rows.columns:
        if kind_of_dialogue(first_value(rows.rows, column))[0] == name:
            return column
    listed = ", ".join(rows.columns)
    raise DataError(
        rows.source, Fault(f"format {name}", f"needs a column {usual!r} with a list of turns; the columns are {listed}")
    )


def _columns(rows: Rows, source: SourceConfig) -> Convert:
    chosen = {str(role): column for role, column in (source.columns or {}).items()}
    template = parse_template(source.prompt_template) if source.prompt_template is not None else _only(chosen["prompt"])
    named = {f"columns.{role}": column for role, column in chosen.items()}
    if source.prompt_template is not None:
        named |= {f"prompt_template's {{{column}}}": column for column in template.columns}
    check_columns(named, rows.columns, rows.source)

    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        cells = {column: text_of(values.get(column), column) for column in template.columns}
        if template.columns and not any(cell.strip() for cell in cells.values()):
            raise UnusableRow("no prompt")
        system = text_of(values.get(chosen["system"]), "system") if "system" in chosen else ""
        return _pair(template.fill(cells), text_of(values.get(chosen["completion"]), chosen["completion"]), system)

    return convert


def _only(column: str) -> PromptTemplate:
    return PromptTemplate(("", column, ""))


def _pair(prompt: str, completion: str, system: str = "") -> Sequence[Message]:
    if not completion.strip():
        raise UnusableRow("no answer")
    if not prompt.strip():
        raise UnusableRow("no prompt")
    return with_system([Message("user", prompt), Message("assistant", completion)], system)


def _alpaca(values: Mapping[str, Any]) -> Sequence[Message]:
    parts = [text_of(values.get(key), key) for key in ("instruction", "input")]
    prompt = "\n\n".join(part for part in parts if part.strip())
    return _pair(prompt, text_of(values.get("output"), "output"), text_of(values.get("system"), "system"))


def _prompt_completion(values: Mapping[str, Any]) -> Sequence[Message]:
    """Two texts, or TRL's conversational form: two lists of messages."""
    prompt, completion = values.get("prompt"), values.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return list(read_turns([*prompt, *completion], "role", "content"))
    return _pair(text_of(prompt, "prompt"), text_of(completion, "completion"))


def _sharegpt(column: str) -> Convert:
    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        messages = list(read_turns(dialogue(values.get(column), column), "from", "value"))
        return with_system(messages, text_of(values.get("system"), "system"), tools_text(values.get("tools")))

    return convert


def _messages(column: str) -> Convert:
    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        messages = list(read_turns(dialogue(values.get(column), column), "role", "content"))
        return with_system(messages, tools_text(values.get("tools")))

    return convert


def _lima(column: str) -> Convert:
    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        turns = dialogue(values.get(column), column)
        return list(
            read_turns([{"role": _SPEAKERS[n % 2], "content": turn} for n, turn in enumerate(turns)], "role", "content")
        )

    return convert


_SPEAKERS = ("user", "assistant")
