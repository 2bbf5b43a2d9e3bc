"""The rows of a source become conversations, whatever its format is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunery.config.data import SourceConfig
from tunery.data.detect import detect
from tunery.data.layouts import converter
from tunery.data.messages import UnusableRow, finished
from tunery.data.prompt_template import parse_template
from tunery.data.rows import Rows, is_blank
from tunery.errors import DataError, Fault
from tunery.records import Conversation, Drop


@dataclass(frozen=True)
class Converted:
    """What became of a source's rows.

    Args:
        format: The format that was named or detected.
        conversations: One a usable row.
        bad: Rows that cannot be used, those that could not be read among them.
        blank: Rows without any value.
        cut: Rows that went on after the last answer; what followed it was left out.
        notes: What was detected, and anything else that a person should read.
    """

    format: str
    conversations: Sequence[Conversation]
    bad: Sequence[Drop]
    blank: Sequence[Drop]
    cut: int
    notes: Sequence[str]


def to_conversations(rows: Rows, source: SourceConfig, index: int) -> Converted:
    """Turn the rows of a source into conversations.

    Args:
        rows: The rows.
        source: Their format, columns and template.
        index: The source's place in the project's list.

    Raises:
        DataError: When the format cannot be detected or needs columns that are not there.
    """
    if not rows.rows:
        return Converted(source.format, [], rows.unreadable, rows.blank, 0, rows.notes)
    name, seen = (_named(source), "") if _is_named(source) else detect(rows)
    convert = converter(name, rows, source)
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
    notes = [*rows.notes, *([seen] if seen else []), *_blank_cells(rows, source)]
    return Converted(name, conversations, bad, rows.blank, cut, notes)


def _is_named(source: SourceConfig) -> bool:
    return source.format != "auto" or source.columns is not None


def _named(source: SourceConfig) -> str:
    if source.columns is not None and source.format not in ("auto", "columns"):
        raise DataError(
            source.source,
            Fault("format", "columns or auto when columns are given", source.format, "Leave one of them out."),
        )
    return "columns" if source.columns is not None else source.format


def _blank_cells(rows: Rows, source: SourceConfig) -> Iterator[str]:
    """A template may name an optional column; rows that leave it blank are counted in a note."""
    if source.prompt_template is None:
        return
    for column in parse_template(source.prompt_template).columns:
        blank = sum(is_blank(row.values.get(column)) for row in rows.rows)
        if blank:
            yield f"{rows.source}: {blank} of {len(rows.rows)} rows have nothing in {column!r} for the prompt template."
