"""The rows of a source become conversations: one reader a format, from a row's values to its turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunery.config.data import RowSource
from tunery.config.fields import nearest
from tunery.data.layouts.beside import completed
from tunery.data.layouts.detect import (
    ANSWERS,
    COMPLETION,
    INPUT,
    INSTRUCTION,
    OUTPUT,
    PROMPT,
    Detected,
    ends_with_question,
    format_of,
    listed,
    suggest,
)
from tunery.data.layouts.fields import CHOSEN, Fields, UnusableRow, flag, spelled
from tunery.data.layouts.messages import alternating, dialogue, finished, read_turns, text_of, turns_in
from tunery.data.layouts.preferences import label_column
from tunery.data.layouts.unread import Unread
from tunery.data.prompt_template import PromptTemplate, parse_template
from tunery.data.reading.rows import Rows, is_blank
from tunery.errors import DataError, Fault
from tunery.records.rows import Conversation, Drop

_Turns = Callable[[Fields], Sequence[Any]]
"""A row's turns, as objects with role and content; raises UnusableRow with the reason when there are none."""


@dataclass(frozen=True)
class Converted:
    """What became of a source's rows."""

    format: str  # named or detected
    conversations: Sequence[Conversation]  # one a usable row
    bad: Sequence[Drop]  # rows that cannot be used, those that could not be read among them
    blank: Sequence[Drop]  # rows without any value
    unwanted: Sequence[Drop] = ()  # rows that say themselves that their answer is not wanted
    cut: int = 0  # rows that went on after the last answer; what followed it was left out
    unused: Mapping[str, int] = field(default_factory=dict)  # columns and keys of turns that nobody read -> how often
    notes: Sequence[str] = ()  # what was detected, and anything else that a person should read


def to_conversations(rows: Rows, source: RowSource, index: int) -> Converted:
    """Turn the rows of a source, the project's `index`-th, into conversations.

    Where `source.columns` names columns, these are read and no others; else also system text, tools, history, reasoning
    and labels of preferences, in whatever format.

    Raises:
        DataError: When the format cannot be detected or needs columns that are not there, or the rows are preferences.
    """
    if not rows.rows:
        return Converted(source.format, [], rows.unreadable, rows.blank)
    found = format_of(rows, source)
    turns_of = _reader(found, rows, source)
    label = label_column(rows) if source.columns is None else None
    unread = Unread()
    conversations, bad, unwanted, cut = [], list(rows.unreadable), [], 0
    for row in rows.rows:
        fields = Fields(row.values)
        if label and flag(fields.get(label)) is False:
            unwanted.append(Drop(row.origin, f"{label} is false: not a wanted answer"))
            continue
        try:
            messages, tools = list(read_turns(turns_of(fields), unread.turn_keys)), ""
            if source.columns is None:
                messages, tools = completed(messages, fields, unread.turn_keys)
            kept = finished(messages, tools)
        except UnusableRow as error:
            bad.append(Drop(row.origin, str(error)))
        else:
            cut += len(kept) < len(messages)
            conversations.append(Conversation(kept, row.origin, index, tools))
            unread.columns.update(fields.unread())
    notes = [*rows.notes, *found.notes, *_notes(rows, source, label, unwanted, unread)]
    return Converted(found.format, conversations, bad, rows.blank, unwanted, cut, unread.counts(), notes)


def _notes(rows: Rows, source: RowSource, label: str | None, unwanted: Sequence[Drop], unread: Unread) -> Iterator[str]:
    if label:
        marked = f"{len(unwanted)} of {len(rows.rows)} rows, where it is false, are not learned."
        yield f"{rows.source}: column {label!r} says which answers are wanted: {marked}"
    # A template may name an optional column; rows that leave it blank are counted in a note.
    for column in parse_template(source.prompt_template or "").columns:
        if blank := sum(is_blank(row.values.get(column)) for row in rows.rows):
            counted = f"{blank} of {len(rows.rows)} rows have nothing in {column!r} for the prompt template."
            yield f"{rows.source}: {counted}"
    yield from (f"{rows.source}: {sentence}" for sentence in unread.warnings())


# ---- one reader a format


def _reader(found: Detected, rows: Rows, source: RowSource) -> _Turns:
    if found.columns:
        return _columns(found.columns, rows, source)
    # Pairs of preferences are taken only where the project names the format: then the chosen answer is meant.
    chosen = CHOSEN if source.format != "auto" else ()
    if found.turns:
        return _turns(found, chosen)
    prompts, answers = ((INSTRUCTION, INPUT), OUTPUT) if found.format == "alpaca" else ((PROMPT,), COMPLETION)
    answers = (*answers, *chosen)
    if not (spelled(rows.columns, prompts[0]) and spelled(rows.columns, answers)):
        needed = f"needs the columns {prompts[0][0]}, {answers[0]}; the columns are {listed(rows.columns)}"
        raise DataError(rows.source, Fault(f"format {found.format}", needed, advice=suggest(rows.columns)))

    def turns_of(row: Fields) -> Sequence[Any]:
        """The prompt's parts with a blank line between, or the turns that it is, and the answer."""
        parts = [part for names in prompts if (part := row.find(names)) is not None]
        prompt = parts[0] if len(parts) == 1 else "\n\n".join(text_of(part, "prompt") for part in parts)
        return _pair(prompt, row.find(answers))

    return turns_of


def _turns(found: Detected, chosen: Sequence[str]) -> _Turns:
    def turns_of(row: Fields) -> Sequence[Any]:
        """The turns of a column, and the answer beside them where they end before it."""
        turns = dialogue(row.get(found.turns), found.turns)
        turns = alternating(turns) if found.format == "lima" else turns
        answers = chosen if row.names(chosen) else ANSWERS
        if not row.names(answers) or not ends_with_question(turns):
            return turns
        return [*turns, *turns_in(row.find(answers), "assistant")]

    return turns_of


def _columns(columns: Mapping[str, str], rows: Rows, source: RowSource) -> _Turns:
    named = {f"columns.{role}": column for role, column in columns.items()}
    template = parse_template(source.prompt_template or "")
    named |= {f"prompt_template's {{{column}}}": column for column in template.columns}
    _check_columns(named, rows)

    def turns_of(row: Fields) -> Sequence[Any]:
        """The system text, the prompt as the template builds it or as it stands, and the answer."""
        prompt: Any = row.get(columns["prompt"]) if source.prompt_template is None else _filled(template, row)
        system = text_of(row.get(columns["system"]), "system") if "system" in columns else ""
        return [{"role": "system", "content": system}, *_pair(prompt, row.get(columns["completion"]))]

    return turns_of


def _filled(template: PromptTemplate, row: Fields) -> str:
    cells = {column: text_of(row.get(column), column) for column in template.columns}
    return template.fill(cells) if not cells or any(cell.strip() for cell in cells.values()) else ""


def _check_columns(named: Mapping[str, str], rows: Rows) -> None:
    same = {column.casefold(): column for column in rows.columns}
    rule = f"one of the columns: {', '.join(rows.columns)}"
    faults = []
    for key, column in named.items():
        if column not in rows.columns:
            meant = same.get(column.casefold())
            advice = f"Did you mean {meant!r}?" if meant else nearest(column, rows.columns)
            faults.append(Fault(key, rule, column, advice))
    if faults:
        raise DataError(rows.source, faults)


def _pair(prompt: Any, completion: Any) -> Sequence[Any]:
    answer = turns_in(completion, "assistant")
    if not answer:
        raise UnusableRow("no answer")
    question = turns_in(prompt, "user")
    if not question:
        raise UnusableRow("no prompt")
    return [*question, *answer]
