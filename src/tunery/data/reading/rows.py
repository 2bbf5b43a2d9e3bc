"""Rows as a source holds them, before anything is known of their format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunery.records.rows import Drop


@dataclass(frozen=True)
class Unreadable:
    """A cell whose value the file does not hold; `reason` says why. A row that needs it cannot be used."""

    reason: str


@dataclass(frozen=True)
class Row:
    """One row: its values by column, and where it came from."""

    # "rows.jsonl:17", the line of a csv or jsonl file where the row begins; "qa.xlsx[QA]:17", the row number that the
    # spreadsheet program shows; otherwise the row counted from 1.
    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """A source as it was read."""

    source: str  # as project.yaml names it
    place: str  # file, sheet or dataset that origins begin with
    rows: Sequence[Row]  # rows that could be read, in order
    unreadable: Sequence[Drop]  # rows that could not, with the reason; they count as bad
    blank: Sequence[Drop]  # rows without any value; they are named but do not count as bad
    columns: Sequence[str]  # every column that some row has, in order of appearance
    digest: str  # 32 hexadecimal digits: SHA-256 of the file, or the fingerprint that `datasets` gives a dataset
    notes: Sequence[str] = ()  # what a person should know of how it was read
    unwanted: int = 0  # rows that the project leaves out by their values

    @property
    def rows_read(self) -> int:
        """Rows of the source, whatever became of them."""
        return len(self.rows) + len(self.unreadable) + len(self.blank) + self.unwanted

    @property
    def rows_wanted(self) -> int:
        """Rows that are meant to be used, unreadable ones among them."""
        return len(self.rows) + len(self.unreadable)


Numbered = tuple[int, Mapping[str, Any] | str]
"""A reader's row: its number, and its values or the reason why it has none."""


def collect(source: str, place: str, numbered: Iterable[Numbered], digest: str) -> Rows:
    """Sort what a reader found into rows, unreadable rows and blank rows."""
    rows: list[Row] = []
    unreadable: list[Drop] = []
    blank: list[Drop] = []
    columns: dict[str, None] = {}
    for number, values in numbered:
        origin = f"{place}:{number}"
        if isinstance(values, str):
            unreadable.append(Drop(origin, values))
        elif not is_unicode("".join(values)):
            unreadable.append(Drop(origin, f"a column's name is {NOT_UNICODE}"))
        elif all(is_blank(value) for value in values.values()):
            blank.append(Drop(origin, "blank row"))
        else:
            rows.append(Row(origin, values))
            columns.update(dict.fromkeys(values))
    return Rows(source, place, rows, unreadable, blank, list(columns), digest)


NOT_UNICODE = "not UTF-8 text (save the file as UTF-8)"


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate: half a character in JSON, or a byte of a file that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, an empty list, or only white space."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, list | tuple | dict) and not value
