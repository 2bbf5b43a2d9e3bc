"""A run's task scores with their conditions, as it logged them; several runs of one model as one entry."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunery.comparison.entries import RunEntry, TaskScore, conditions_of, conflicts, repetitions
from tunery.tracking.entities import entity_name
from tunery.tracking.scores import CONSTANTS, TASK_PARAM

if TYPE_CHECKING:
    from tunery.tracking.search import Run


def task_scores(run: Run) -> dict[str, TaskScore]:
    """Scores of the run's tasks, in its order; tasks without a value are left out.

    The score of a run whose checkpoint or settings were chosen on dev items is that of its locked items, if logged.
    """
    metrics, bare = metrics_of(run), is_bare(run)
    scores = [
        _score(name.removeprefix(TASK_PARAM), text, metrics, bare)
        for name, text in run.data.params.items()
        if name.startswith(TASK_PARAM)
    ]
    return {score.task: score for score in scores if score is not None}


def metrics_of(run: Run) -> dict[str, float]:
    """All that the run logged. MLflow's databases hold no infinity: they keep the largest float instead."""
    most = sys.float_info.max
    return {
        name: math.copysign(math.inf, value) if abs(value) >= most else value
        for name, value in run.data.metrics.items()
    }


def numbers_of(run: Run) -> dict[str, float]:
    """Metrics, and the counts and sizes that are params now; earlier runs kept them as metrics."""
    constants = {}
    for name in CONSTANTS:
        with suppress(ValueError):  # empty, or of a run that is not ours
            constants[name] = float(run.data.params.get(name, ""))
    return metrics_of(run) | constants


def _score(task: str, text: str, metrics: Mapping[str, float], bare: bool) -> TaskScore | None:
    logged = _parsed(text)
    task = logged.get("task", task)  # MLflow changes some names
    name = entity_name(f"{task}/{logged['metric']}")
    locked = f"locked/{name}" in metrics
    prefix = "locked" if locked else "lm_eval"
    value = metrics.get(f"{prefix}/{name}")
    if value is None:
        return None
    has_base = not locked and not bare  # the base was scored on all items, and has no gain over itself
    return TaskScore(
        task=sys.intern(task),
        metric=sys.intern(logged["metric"]),
        value=value,
        stderr=metrics.get(f"{prefix}/{name}_stderr"),
        items=0 if locked else int(logged.get("count") or 0),
        base=metrics.get(f"base/{name}") if has_base else None,
        base_stderr=metrics.get(f"base/{name}_stderr") if has_base else None,
        higher_is_better=bool(logged.get("higher_is_better", True)),
        conditions=_conditions(text, locked),
        counts=bool(logged.get("counts", True)),
    )


def is_bare(run: Run) -> bool:
    """Whether the run scored a model that was not trained."""
    return bool(run.data.tags.get("tunery.method") == "none")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    logged: dict[str, Any] = json.loads(text)
    return logged


@lru_cache(maxsize=4096)  # thousands of runs share a handful of conditions
def _conditions(text: str, locked: bool) -> Mapping[str, str]:
    """Conditions as texts; what was not recorded is missing."""
    logged = _parsed(text)
    version = "" if logged.get("version") is None else str(logged["version"])
    known = {
        "version": version.partition("+")[0],
        "settings": version.partition("+")[2],
        "members": logged.get("members"),
        "prompt": logged.get("prompt"),
        "wording": logged.get("wording"),
        "few_shot": logged.get("few_shot"),
        "limit": ("all" if logged["limit"] is None else logged["limit"]) if "limit" in logged else None,
        "chat_template": logged.get("chat_template"),
        "template": logged.get("template"),
        "split": "locked" if locked else "dev" if logged.get("split") == "dev" else "all",
        # Logged of all items: for the locked ones, only the answers show which they are.
        "items": None if locked else logged.get("items"),
        "system_prompt": logged.get("system_prompt"),
    }
    known = {key: value for key, value in known.items() if value not in (None, "")}
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in known.items()}


# ---- several runs of one model


def by_one_metric(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Imports by the metric that our own runs are scored by: a result file does not say which of several counts."""
    chosen: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.imported is None:
            for task, score in entry.tasks.items():
                chosen[task][score.metric] += 1
    usual = {task: counts.most_common(1)[0][0] for task, counts in chosen.items()}
    return [
        entry
        if entry.imported is None
        else replace(
            entry,
            tasks={name: _by_metric(score, usual.get(name), entry.imported) for name, score in entry.tasks.items()},
        )
        for entry in entries
    ]


def _by_metric(score: TaskScore, metric: str | None, run: Run) -> TaskScore:
    """The same task by this metric of an import; unchanged if the import has no such metric."""
    if metric is None or metric == score.metric:
        return score
    metrics, name = metrics_of(run), entity_name(f"{score.task}/{metric}")
    value = metrics.get(f"lm_eval/{name}")
    if value is None:
        return score
    logged = _parsed(run.data.params.get(f"{TASK_PARAM}{entity_name(score.task)}", "{}"))
    return replace(
        score,
        metric=metric,
        value=value,
        stderr=metrics.get(f"lm_eval/{name}_stderr"),
        base=metrics.get(f"base/{name}"),
        base_stderr=metrics.get(f"base/{name}_stderr"),
        higher_is_better=metric not in logged.get("lower_is_better", ()),
    )


def with_evaluations(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Tasks that `tunery evaluate` added later go into the entry of the run that trained the model.

    Not so where layers were offloaded, which are not quantised then: that is another form of the model.
    """
    trained = {model: entry for entry in entries for model in entry.models if not entry.evaluated}
    later: dict[str, list[RunEntry]] = defaultdict(list)
    others = []
    for entry in entries:
        home = trained.get(entry.evaluated) if entry.evaluated else None
        offloaded = any(key.startswith("base.offload.") for key in entry.settings)
        if home is None or entry.named or offloaded:
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
            continue
        first = kept[place]
        kept[place] = replace(
            first,
            tasks={**first.tasks, **entry.tasks, **first.tasks},  # named twice: first by place, last by value
            costs={**entry.costs, **first.costs},
            version=first.version or entry.version,
            locations={**entry.locations, **first.locations},
            models=(*first.models, *entry.models),
        )
    return kept


def _conflict(one: RunEntry, other: RunEntry) -> bool:
    for task in one.tasks.keys() & other.tasks.keys():
        mine, theirs = conditions_of(one.tasks[task]), conditions_of(other.tasks[task])
        # One model's locked items are part of all items: both scores are of the same answers, not of two evaluations.
        part_of_the_other = {mine.get("split"), theirs.get("split")} == {"locked", "all"}
        if set(conflicts(mine, theirs)) - ({"split"} if part_of_the_other else set()):
            return True
        if mine.get("wording") != theirs.get("wording"):
            return True
    return False
