"""Columns and keys of turns that mean nothing to tunery: counted for the report, and told where they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tunery.data.layouts.fields import changes_meaning


@dataclass
class Unread:
    """How often something that nobody read had a value."""

    columns: Counter[str] = field(default_factory=Counter)  # rows, by column
    turn_keys: Counter[str] = field(default_factory=Counter)  # turns, by key

    def counts(self) -> Mapping[str, int]:
        """Rows or turns with a value, by a name for the report."""
        columns = {f"column {name!r}": count for name, count in self.columns.items()}
        return columns | {f"key {name!r} of turns": count for name, count in self.turn_keys.items()}

    def warnings(self) -> Iterator[str]:
        """A sentence for each that is known to change what a row teaches."""
        for counter, where, what in ((self.columns, "column", "rows"), (self.turn_keys, "key of turns", "turns")):
            for name, count in counter.items():
                if changes_meaning(name):
                    yield f"{where} {name!r} is not used, though it can change what is learned ({count} {what})."
