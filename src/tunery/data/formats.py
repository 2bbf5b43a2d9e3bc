"""The rows of a source become conversations: one converter a format, from a row's values to messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunery.config.data import SourceConfig
from tunery.config.fields import nearest
from tunery.data.detect import detect, first_value, kind_of_dialogue, suggest
from tunery.data.messages import UnusableRow, dialogue, finished, read_turns, text_of, tools_text, with_system
from tunery.data.prompt_template import PromptTemplate, parse_template
from tunery.data.rows import Rows, is_blank
from tunery.errors import DataError, Fault
from tunery.records import Conversation, Drop, Message

_Convert = Callable[[Mapping[str, Any]], Sequence[Message]]
"""Raises UnusableRow with the reason when a row cannot be used."""


@dataclass(frozen=True)
class Converted:
    """What became of a source's rows."""

    format: str  # named or detected
    conversations: Sequence[Conversation]  # one a usable row
    bad: Sequence[Drop]  # rows that cannot be used, those that could not be read among them
    blank: Sequence[Drop]  # rows without any value
    cut: int = 0  # rows that went on after the last answer; what followed it was left out
    notes: Sequence[str] = ()  # what was detected, and anything else that a person should read


def to_conversations(rows: Rows, source: SourceConfig, index: int) -> Converted:
    """Turn the rows of a source, the project's `index`-th, into conversations.

    Raises:
        DataError: When the format cannot be detected or needs columns that are not there.
    """
    if not rows.rows:
        return Converted(source.format, [], rows.unreadable, rows.blank)
    notes = []
    name: str = source.format if source.columns is None else "columns"
    if source.format not in ("auto", name):
        fault = Fault("format", "columns or auto when columns are given", source.format, "Leave one of them out.")
        raise DataError(source.source, fault)
    if name == "auto":
        name, seen = detect(rows)
        notes.append(seen)
    convert = _converter(name, rows, source)
    conversations, bad, cut = [], list(rows.unreadable), 0
    for row in rows.rows:
        try:
            messages = convert(row.values)
            kept = finished(messages)
        except UnusableRow as error:
            bad.append(Drop(row.origin, str(error)))
        else:
            cut += len(kept) < len(messages)
            conversations.append(Conversation(kept, row.origin, index))
    # A template may name an optional column; rows that leave it blank are counted in a note.
    for column in parse_template(source.prompt_template or "").columns:
        if blank := sum(is_blank(row.values.get(column)) for row in rows.rows):
            counted = f"{blank} of {len(rows.rows)} rows have nothing in {column!r} for the prompt template."
            notes.append(f"{rows.source}: {counted}")
    return Converted(name, conversations, bad, rows.blank, cut, notes)


def _converter(name: str, rows: Rows, source: SourceConfig) -> _Convert:
    if name == "columns":
        return _columns(rows, source)
    if name in ("alpaca", "prompt-completion"):
        needed = ("instruction", "output") if name == "alpaca" else ("prompt", "completion")
        if not set(needed) <= set(rows.columns):
            rule = f"needs the columns {', '.join(needed)}; the columns are {', '.join(rows.columns)}"
            raise DataError(rows.source, Fault(f"format {name}", rule, advice=suggest(rows.columns)))
        return _alpaca if name == "alpaca" else _prompt_completion
    return _turns(name, _dialogue_column(name, rows))


def _dialogue_column(name: str, rows: Rows) -> str:
    """The column that holds the turns: the usual one, or the first whose values are turns of this kind."""
    usual = "messages" if name == "messages" else "conversations"
    if usual in rows.columns:
        return usual
    for column in rows.columns:
        if kind_of_dialogue(first_value(rows.rows, column))[0] == name:
            return column
    rule = f"needs a column {usual!r} with a list of turns; the columns are {', '.join(rows.columns)}"
    raise DataError(rows.source, Fault(f"format {name}", rule))


def _turns(name: str, column: str) -> _Convert:
    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        """A row's turns as messages, its system message and tools first; UnusableRow if the column holds no turns."""
        turns = dialogue(values.get(column), column)
        if name == "lima":
            speakers = ("user", "assistant")
            turns = [{"role": speakers[n % 2], "content": turn} for n, turn in enumerate(turns)]
            return list(read_turns(turns, "role", "content"))
        if name == "messages":
            return with_system(list(read_turns(turns, "role", "content")), tools_text(values.get("tools")))
        messages = list(read_turns(turns, "from", "value"))
        return with_system(messages, text_of(values.get("system"), "system"), tools_text(values.get("tools")))

    return convert


def _columns(rows: Rows, source: SourceConfig) -> _Convert:
    chosen = {str(role): column for role, column in (source.columns or {}).items()}
    named = {f"columns.{role}": column for role, column in chosen.items()}
    if source.prompt_template is None:
        template = PromptTemplate(("", chosen["prompt"], ""))
    else:
        template = parse_template(source.prompt_template)
        named |= {f"prompt_template's {{{column}}}": column for column in template.columns}
    _check_columns(named, rows)

    def convert(values: Mapping[str, Any]) -> Sequence[Message]:
        cells = {column: text_of(values.get(column), column) for column in template.columns}
        if template.columns and not any(cell.strip() for cell in cells.values()):
            raise UnusableRow("no prompt")
        system = text_of(values.get(chosen["system"]), "system") if "system" in chosen else ""
        return _pair(template.fill(cells), text_of(values.get(chosen["completion"]), chosen["completion"]), system)

    return convert


def _check_columns(named: Mapping[str, str], rows: Rows) -> None:
    folded = {column.casefold(): column for column in rows.columns}
    rule = f"one of the columns: {', '.join(rows.columns)}"
    faults = []
    for key, column in named.items():
        if column not in rows.columns:
            same = folded.get(column.casefold())
            faults.append(
                Fault(key, rule, column, f"Did you mean {same!r}?" if same else nearest(column, rows.columns))
            )
    if faults:
        raise DataError(rows.source, faults)


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
