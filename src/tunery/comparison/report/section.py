"""One table of a comparison, before a terminal, a page or a document draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableSection:
    """One table."""

    title: str
    # Names of the columns; those that begin with a space are of numbers, and stand to the right.
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # texts, as many in each as there are headings
    groups: tuple[int, ...] = ()  # rows before which a new group begins
    notes: tuple[str, ...] = ()  # sentences below it
    # Headings of columns that a terminal may leave out where it has no room, the first one first.
    spare: tuple[str, ...] = ()
