"""Several runs of one model as one entry: imports by our metric, later evaluations, repeated runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tunery.comparison.conditions import by_metric, conditions_of, conflicts
from tunery.comparison.entries import RunEntry, repetitions


def by_one_metric(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Imports by the metric that our own runs are scored by: a result file does not say which of several counts."""
    chosen: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.imported is None:
            for task, score in entry.tasks.items():
                chosen[task][score.metric] += 1
    usual = {task: counts.most_common(1)[0][0] for task, counts in chosen.items()}
    found = []
    for entry in entries:
        tasks = dict(entry.tasks)
        for task, score in entry.tasks.items():
            if entry.imported is not None and usual.get(task, score.metric) != score.metric:
                tasks[task] = by_metric(score, usual[task], entry.imported)
        found.append(replace(entry, tasks=tasks))
    return found


def with_evaluations(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Tasks that `tunery evaluate` added later go into the entry of the run that trained the model."""
    trained = {model: entry for entry in entries for model in entry.models if not entry.evaluated}
    later: dict[str, list[RunEntry]] = defaultdict(list)
    others = []
    for entry in entries:
        home = trained.get(entry.evaluated) if entry.evaluated else None
        if home is None or entry.named:
            others.append(entry)
        else:
            later[home.run_id].append(entry)
    return [one for entry in others for one in _merged([entry, *later.get(entry.run_id, [])])]


def latest(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The latest run of each configuration and seed; runs that a person named are all kept."""
    groups = repetitions(entry for entry in entries if not entry.named)
    merged = {one.run_id: one for group in groups for one in _merged(group)}
    kept = (entry if entry.named else merged.get(entry.run_id) for entry in entries)
    return [entry for entry in kept if entry is not None]


def _merged(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Runs of one model as one entry, or as several if a task was scored under other conditions."""
    kept: list[RunEntry] = []
    for entry in entries:
        place = next((place for place, one in enumerate(kept) if not _conflict(one, entry)), None)
        if place is None:
            kept.append(entry)
        else:
            kept[place] = _together(kept[place], entry)
    return kept


def _conflict(one: RunEntry, other: RunEntry) -> bool:
    for task in one.tasks.keys() & other.tasks.keys():
        mine, theirs = conditions_of(one.tasks[task]), conditions_of(other.tasks[task])
        # One model's locked items are part of all items: both scores are of the same answers, not of two evaluations.
        part_of_the_other = {mine.get("split"), theirs.get("split")} == {"locked", "all"}
        if set(conflicts(mine, theirs)) - ({"split"} if part_of_the_other else set()):
            return True
    return False


def _together(entry: RunEntry, more: RunEntry) -> RunEntry:
    """The entry, with the tasks that only the other has."""
    return replace(
        entry,
        tasks={**entry.tasks, **more.tasks, **entry.tasks},  # named twice: first by place, last by value
        costs={**more.costs, **entry.costs},
        version=entry.version or more.version,
        locations={**more.locations, **entry.locations},
        models=(*entry.models, *more.models),
    )
