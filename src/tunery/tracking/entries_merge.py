"""Several runs of one model as one row: imports by our metric, later evaluations, repetitions, votes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.entries import Votes
from tunery.tracking.entries_conditions import by_metric, lower_is_better
from tunery.tracking.entries_records import Reading
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000


# ---- one metric a task


def by_one_metric(readings: Sequence[Reading]) -> list[Reading]:
    """Imports by the metric that our own runs are scored by: a result file does not say which of several counts."""
    chosen: dict[str, Counter[str]] = defaultdict(Counter)
    for reading in readings:
        if reading.imported is None:
            for task, score in reading.entry.tasks.items():
                chosen[task][score.metric] += 1
    usual = {task: counts.most_common(1)[0][0] for task, counts in chosen.items()}
    return [_by(reading, reading.imported, usual) if reading.imported else reading for reading in readings]


def _by(reading: Reading, run: Run, usual: Mapping[str, str]) -> Reading:
    tasks = {
        task: by_metric(score, usual[task], run.data.metrics, lower_is_better(run, task))
        if usual.get(task, score.metric) != score.metric
        else score
        for task, score in reading.entry.tasks.items()
    }
    return replace(reading, entry=replace(reading.entry, tasks=tasks))


# ---- several runs of one model


def with_evaluations(readings: Sequence[Reading]) -> list[Reading]:
    """Scores of a model that `tunery evaluate` asked more tasks, in the row of the run that trained it."""
    homes = {model: reading for reading in readings for model in reading.models if not reading.evaluated}
    later: dict[str, list[Reading]] = defaultdict(list)
    alone = []
    for reading in readings:
        home = homes.get(reading.evaluated) if reading.evaluated else None
        if home is None or reading.named:
            alone.append(reading)
        else:
            later[home.entry.run_id].append(reading)
    return [_together([reading, *later.get(reading.entry.run_id, [])]) for reading in alone]


def latest(readings: Sequence[Reading]) -> list[Reading]:
    """The latest run of each configuration and seed; what was named stands for itself."""
    groups: dict[Hashable, list[Reading]] = defaultdict(list)
    for reading in readings:
        key = reading.entry.run_id if reading.named else (reading.entry.configuration, reading.entry.seed)
        groups[key].append(reading)
    return [_together(sorted(group, key=lambda one: -one.entry.started_ms)) for group in groups.values()]


def _together(readings: Sequence[Reading]) -> Reading:
    """One row for several runs of one model: the first speaks, the others add the tasks that it was not asked."""
    first = readings[0]
    if len(readings) == 1:
        return first
    tasks = {task: score for one in reversed(readings) for task, score in one.entry.tasks.items()}
    sources = {task: source for one in reversed(readings) for task, source in one.sources.items()}
    costs = {name: value for one in reversed(readings) for name, value in one.entry.costs.items()}
    order = dict.fromkeys(task for one in readings for task in one.entry.tasks)
    version = next((one.entry.version for one in readings if one.entry.version), None)
    entry = replace(first.entry, tasks={task: tasks[task] for task in order}, costs=costs, version=version)
    models = tuple(model for one in readings for model in one.models)
    return replace(first, entry=entry, sources=sources, models=models)


# ---- votes


def with_votes(store: Store, readings: Sequence[Reading]) -> list[Reading]:
    """The same readings with the choices that people made on the chat page."""
    votes = _votes(store)
    if not votes:
        return list(readings)
    return [replace(one, entry=replace(one.entry, votes=_votes_of(one, votes))) for one in readings]


def _votes_of(reading: Reading, votes: Mapping[str, Votes]) -> Votes | None:
    found = [votes[name] for name in {reading.entry.run_id, *reading.models} if name in votes]
    return found[0] if found else None


def _votes(store: Store) -> dict[str, Votes]:
    """Choices between a model and its base, by logged model and by run; all sessions together."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    with refusals(store.uri):
        everywhere = [experiment.experiment_id for experiment in store.client.search_experiments()]
        found = store.client.search_runs(everywhere, "tags.`tunery.kind` = 'votes'", max_results=_PAGE)
    for run in found:
        for about in (run.data.tags.get("tunery.voted_model"), run.data.tags.get("tunery.voted_run")):
            for place, name in enumerate(("wins", "ties", "losses") if about else ()):
                counts[str(about)][place] += run.data.metrics.get(f"votes/{name}", 0.0)
    return {about: Votes(*(int(number) for number in numbers)) for about, numbers in counts.items() if any(numbers)}
