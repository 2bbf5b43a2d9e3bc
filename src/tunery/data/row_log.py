"""What became of every row, kept while the data stage goes on; at its end it is the report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunery.errors import DataError, Fault
from tunery.records.rows import Conversation, DataReport, Drop, Example, SourceReport

CUT_AWAY = "completion cut away at max_length"
PERCENTILES = (0, 5, 50, 95, 100)


@dataclass
class RowLog:
    """What is known of the rows so far."""

    sources: list[SourceReport] = field(default_factory=list)  # one entry a source, with no rows kept yet
    # What the origins of each source's rows begin with, no two the same.
    places: list[str] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)  # rows of each source that are meant to be used
    # Unusable rows by source, those that stop the run when they are too many.
    bad: list[Sequence[Drop]] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)  # every row left out
    changed: Counter[str] = field(default_factory=Counter)  # rows altered, by step
    # Origins of rows whose cells a step altered before a prompt template was filled, by step.
    altered: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    filled: set[int] = field(default_factory=set)  # sources that have a prompt template, by number
    contaminated: dict[str, str] = field(default_factory=dict)  # origin -> task
    not_compared: str = ""  # why rows were not compared with evaluation items
    # Columns and keys of turns that were not used, with their source -> rows or turns that had a value there.
    unused: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)  # rows that the project does not ask for, by source and key
    classes: dict[str, str] = field(default_factory=dict)  # origin -> value of the column that sample.balanced names
    notes: list[str] = field(default_factory=list)  # sentences that a person should read
    # What is told of how rows became tokens, by names in `told.TOLD`: the rows' origins.
    told: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def report(
        self, train: Sequence[Example], validation: int, kept: Sequence[tuple[Conversation, Example]], max_length: int
    ) -> DataReport:
        """The report.

        Args:
            train: Examples after mixing.
            validation: How many are held out.
            kept: Each row that is used, once.
            max_length: Tokens at which rows were cut.
        """
        lengths = sorted(len(example.input_ids) for example in train)
        rows_kept = Counter(row.source for row, _ in kept)
        # The smallest length that at least so many percent of the rows do not exceed (nearest rank).
        places = {percent: max(math.ceil(percent / 100 * len(lengths)), 1) - 1 for percent in PERCENTILES}
        return DataReport(
            sources=tuple(replace(source, rows_kept=rows_kept[index]) for index, source in enumerate(self.sources)),
            drops=tuple(self.drops),
            changed=dict(self.changed),
            train_rows=len(train),
            validation_rows=validation,
            train_tokens=sum(lengths),
            token_percentiles={str(percent): lengths[place] for percent, place in places.items()},
            truncated=tuple(row.origin for row, example in kept if example.truncated),
            target_share=sum(sum(example.trained) for example in train) / sum(lengths),
            contaminated=self.contaminated,
            notes=tuple(self.notes),
            max_length=max_length,
            unused=self.unused,
            left_out=dict(self.left_out),
            not_compared=self.not_compared,
        )


def check_bad_rows(source: str, bad: Sequence[Drop], rows: int, allowed: float) -> None:
    """Stop when more than the allowed share of a source's rows cannot be used.

    Args:
        rows: Rows of the source, blank ones not counted.
        allowed: data.max_bad_rows.

    Raises:
        DataError: Naming the first few rows, and how to allow it.
    """
    if len(bad) <= allowed * rows:
        return
    shown = "; ".join(f"{drop.origin}: {drop.reason}" for drop in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    rule = f"at most {allowed:.3g} (data.max_bad_rows) of its {rows} rows; {shown}{more}"
    share = len(bad) / rows
    enough = math.ceil(share * 100) / 100
    mend = "Raise data.max_length" if all(drop.reason == CUT_AWAY for drop in bad) else "Mend them"
    mend = f"{mend}, or allow it with data.max_bad_rows: {enough:g}."
    advice = mend if enough < 1 else "Look at source, format and columns."
    raise DataError(source, Fault("share of bad rows", rule, round(share, 4), advice))
