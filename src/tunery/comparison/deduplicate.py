"""Several runs of one model as one row: tasks by one name, imports by our metric, later evaluations, repetitions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.comparison.conditions import by_metric, lower_is_better, metrics_of
from tunery.comparison.entries import RunEntry, TaskScore
from tunery.tracking.writer import entity_name

if TYPE_CHECKING:
    from mlflow.entities import Run


# ---- one name and one metric a task


def by_true_names(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """A task that some of the runs tell the true name of is called so in all: MLflow takes no colon in a param's."""
    told = {entity_name(task): task for one in readings for task in one.entry.tasks if entity_name(task) != task}
    return [_renamed(reading, told) for reading in readings] if told else list(readings)


def _renamed(reading: RunEntry, told: Mapping[str, str]) -> RunEntry:
    names = {task: told.get(task, task) for task in reading.entry.tasks}
    tasks = {name: replace(reading.entry.tasks[task], task=name) for task, name in names.items()}
    sources = {name: reading.sources[task] for task, name in names.items()}
    return replace(reading, entry=replace(reading.entry, tasks=tasks), sources=sources)


def by_one_metric(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """Imports by the metric that our own runs are scored by: a result file does not say which of several counts."""
    chosen: dict[str, Counter[str]] = defaultdict(Counter)
    for reading in readings:
        if reading.imported is None:
            for task, score in reading.entry.tasks.items():
                chosen[task][score.metric] += 1
    usual = {task: counts.most_common(1)[0][0] for task, counts in chosen.items()}
    return [_by(reading, reading.imported, usual) if reading.imported else reading for reading in readings]


def _by(reading: RunEntry, run: Run, usual: Mapping[str, str]) -> RunEntry:
    metrics = metrics_of(run)
    tasks = {
        task: by_metric(score, usual[task], metrics, lower_is_better(run, task))
        if usual.get(task, score.metric) != score.metric
        else score
        for task, score in reading.entry.tasks.items()
    }
    return replace(reading, entry=replace(reading.entry, tasks=tasks))


# ---- several runs of one model


def with_evaluations(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """Scores of a model that `tunery evaluate` asked more tasks, in the row of the run that trained it."""
    homes = {model: reading for reading in readings for model in reading.models if not reading.evaluated}
    later: dict[str, list[RunEntry]] = defaultdict(list)
    alone = []
    for reading in readings:
        home = homes.get(reading.evaluated) if reading.evaluated else None
        if home is None or reading.named:
            alone.append(reading)
        else:
            later[home.entry.run_id].append(reading)
    return [row for reading in alone for row in _rows([reading, *later.get(reading.entry.run_id, [])])]


def latest(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """The latest run of each configuration and seed, asked in one way; what was named stands for itself."""
    groups: dict[Hashable, list[RunEntry]] = defaultdict(list)
    for reading in readings:
        key = reading.entry.run_id if reading.named else (reading.entry.configuration, reading.entry.seed)
        groups[key].append(reading)
    return [row for group in groups.values() for row in _rows(sorted(group, key=lambda one: -one.entry.started_ms))]


def _rows(readings: Sequence[RunEntry]) -> list[RunEntry]:
    """Runs of one model as one row, or several: a run that was asked a task in another way joins none without it."""
    rows: list[RunEntry] = []
    for reading in readings:
        place = next((place for place, row in enumerate(rows) if not _clash(row, reading)), None)
        if place is None:
            rows.append(reading)
        else:
            rows[place] = _together(rows[place], reading)
    return rows


def _clash(one: RunEntry, other: RunEntry) -> bool:
    """Whether both were asked a task, in different ways."""
    mine, theirs = one.entry.tasks, other.entry.tasks
    return any(_differ(mine[task], theirs[task]) for task in mine.keys() & theirs.keys())


def _differ(one: TaskScore, other: TaskScore) -> bool:
    mine, theirs = ({**score.conditions, "metric": score.metric} for score in (one, other))
    # Locked items are a part of the same answers; the same items settle how they were chosen.
    same_items = "items" in mine and mine["items"] == theirs.get("items")
    settled = {"split", "limit"} if same_items else {"split"}
    return any(mine[key] != theirs[key] for key in (mine.keys() & theirs.keys()) - settled)


def _together(row: RunEntry, more: RunEntry) -> RunEntry:
    """The row, with the tasks that it was not asked and the other was."""
    mine, theirs = row.entry, more.entry
    entry = replace(
        mine,
        tasks={**mine.tasks, **theirs.tasks, **mine.tasks},  # named twice: first by place, last by value
        costs={**theirs.costs, **mine.costs},
        version=mine.version or theirs.version,
    )
    return replace(row, entry=entry, sources={**more.sources, **row.sources}, models=(*row.models, *more.models))
