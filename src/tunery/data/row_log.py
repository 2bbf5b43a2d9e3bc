"""What became of every row, kept while the data stage goes on; at its end it is the report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunery.errors import DataError, Fault
from tunery.records import Conversation, DataReport, Drop, Example, SourceReport

PERCENTILES = (0, 5, 50, 95, 100)


@dataclass
class RowLog:
    """What is known of the rows so far.

    Args:
        sources: One entry a source, with no rows kept yet.
        places: What the origins of each source's rows begin with, no two the same.
        bad: Unusable rows by source, those that stop the run when they are too many.
        drops: Every row left out.
        changed: Rows altered, by step.
        contaminated: Origin -> task.
        notes: Sentences that a person should read.
    """

    sources: list[SourceReport] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    bad: list[Sequence[Drop]] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)
    contaminated: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_bad_rows(source: str, bad: Sequence[Drop], rows: int, allowed: float) -> None:
    """Stop when more than the allowed share of a source's rows cannot be used.

    Args:
        source: As project.yaml names it.
        bad: The rows.
        rows: Rows of the source, blank ones not counted.
        allowed: data.max_bad_rows.

    Raises:
        DataError: Naming the first few rows, and how to allow it.
    """
    if len(bad) <= allowed * rows:
        return
    share = len(bad) / rows
    shown = "; ".join(f"{drop.origin}: {drop.reason}" for drop in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    rule = f"at most {allowed:.3g} (data.max_bad_rows) of its {rows} rows; {shown}{more}"
    enough = math.ceil(share * 100) / 100
    advice = (
        f"Mend them, or allow it with data.max_bad_rows: {enough:g}."
        if enough < 1
        else "Look at source, format and columns."
    )
    raise DataError(source, Fault("share of bad rows", rule, round(share, 4), advice))


def build_report(
    row_log: RowLog,
    train: Sequence[Example],
    validation: Sequence[Example],
    truncated: Sequence[str],
    kept: Sequence[Conversation],
) -> DataReport:
    """The report.

    Args:
        row_log: What was noted on the way.
        train: Examples after mixing.
        validation: Examples held out.
        truncated: Origins of the rows that were cut at data.max_length.
        kept: Rows that are trained or validated on, each once.
    """
    lengths = sorted(len(example.input_ids) for example in train)
    rows_kept = Counter(conversation.source for conversation in kept)
    tokens = sum(lengths)
    return DataReport(
        sources=tuple(replace(source, rows_kept=rows_kept[index]) for index, source in enumerate(row_log.sources)),
        drops=tuple(row_log.drops),
        changed=dict(row_log.changed),
        train_rows=len(train),
        validation_rows=len(validation),
        train_tokens=tokens,
        token_percentiles={str(percent): _percentile(lengths, percent) for percent in PERCENTILES},
        truncated=tuple(truncated),
        target_share=sum(sum(example.trained) for example in train) / tokens,
        contaminated=row_log.contaminated,
        notes=tuple(row_log.notes),
    )


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest length that at least `percent` of the rows do not exceed (nearest rank)."""
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]
