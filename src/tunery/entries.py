"""Frozen records of a comparison: one entry a run, with what its scores may be compared to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskScore:
    """One run's score of one task beside its base's.

    Args:
        items: Items that were scored; 0 where nobody says.
        base, base_stderr: The base's own score on the same items; None where it is not known.
        conditions: What must agree for two scores to stand in one ranking: "version", "few_shot", "limit",
            "chat_template", "split", and "items" (a digest of the item ids). What nobody recorded is missing.
        counts: Whether the task is part of the run's `score`.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    items: int
    base: float | None = None
    base_stderr: float | None = None
    higher_is_better: bool = True
    conditions: Mapping[str, str] = field(default_factory=dict)
    counts: bool = True


@dataclass(frozen=True)
class Votes:
    """People's choices between a model's answers and its base's."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Entry:
    """One run as a comparison sees it.

    Args:
        kind: train, trial, evaluation, base or import.
        base: The base model's name; base and revision decide what the anchor is.
        method: full, lora, qlora, dora, qdora, ...; none for a bare model.
        trained_on: Names of the training datasets, as one text; empty for a bare model.
        configuration: Equal for runs that differ in their seed alone.
        tasks: Scores by task.
        costs: train_seconds, peak_memory_bytes, trainable_parameters, model_bytes, energy_joules: those that are known.
        train_rows: Rows that were trained on.
        version: "name/3" of its registered version.
        samples: Answers by task, one row an item: item_id, split, one column a metric, and `passage` where items share
            a text. Empty where a run keeps none.
        curves: Metric -> (optimizer step, value) of every point.
        notes: What a reader should know: fewer items than asked, a run that was imported, ...
    """

    run_id: str
    name: str
    kind: str
    project: str
    base: str
    method: str
    trained_on: str
    configuration: str
    seed: int | None
    tasks: Mapping[str, TaskScore]
    base_revision: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    train_rows: int | None = None
    version: str | None = None
    samples: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    base_samples: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    votes: Votes | None = None
    started_ms: int = 0
    notes: Sequence[str] = ()
