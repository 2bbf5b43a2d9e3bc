"""Frozen records of a comparison: one entry a run, with what its scores may be compared to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run


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


def counting(run: Entry) -> dict[str, TaskScore]:
    """The tasks that make a run's score; all of them where none is said to."""
    return {name: score for name, score in run.tasks.items() if score.counts} or dict(run.tasks)


def counting_anywhere(runs: Iterable[Entry]) -> set[str]:
    """The tasks that count in any of the runs; what was imported has a say only where nothing else has."""
    tasks: dict[bool, set[str]] = {True: set(), False: set()}
    for run in runs:
        tasks[run.kind == "import"].update(counting(run))
    return tasks[False] or tasks[True]


def ranked_by(run: Entry, tasks: Collection[str]) -> dict[str, TaskScore]:
    """The scores that a run is ranked by beside others.

    Two projects may have scored each other's tasks without counting them: beside one another, both have what it takes.

    Args:
        tasks: From `counting_anywhere`, of all that are compared.

    Returns:
        Its own where it has none of the tasks. A task that does not count in it is left out where it is no number.
    """
    own = counting(run)
    found = {
        name: score
        for name, score in run.tasks.items()
        if name in tasks and (name in own or math.isfinite(score.value))
    }
    return found or own


@dataclass(frozen=True)
class SamplesLocation:
    """Where a task's answers lie, and which base's answers they are held against.

    Args:
        folder: In the run's artifacts: samples, or samples/locked.
    """

    run_id: str
    artifact_uri: str
    folder: str
    base: str
    base_revision: str
    quantization: str | None
    is_bare: bool = False
    is_kept_base: bool = False


@dataclass(frozen=True)
class RunEntry:
    """One entry, with what a comparison may look up later.

    Args:
        sources: By task.
        settings: The params that make its configuration, by short key: {"adapter.rank": "16"}.
        experiment_id: For a link.
        models: MLflow's ids of the models that the run logged.
        evaluated: The logged model that an evaluation scored.
        named: Whether it was asked for by its id or version.
        power: Curves of the power that it drew, in watts: one a GPU, where MLflow could read it.
        imported: The whole run of an import, which may be asked for another of its metrics.
    """

    entry: Entry
    sources: Mapping[str, SamplesLocation]
    settings: Mapping[str, str]
    experiment_id: str
    models: tuple[str, ...] = ()
    evaluated: str = ""
    named: bool = False
    power: tuple[str, ...] = ()
    imported: Run | None = None


@dataclass(frozen=True)
class RunEntries:
    """What was found: the latest run of each configuration, seed and way of asking, and how many stand behind them."""

    readings: tuple[RunEntry, ...]
    runs: int
    notes: tuple[str, ...] = ()
