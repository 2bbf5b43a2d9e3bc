"""A run's task scores as it logged them, and the conditions that must agree before two scores are compared."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunery.comparison.entries import TaskScore
from tunery.tracking.entities import entity_name
from tunery.tracking.scores import TASK_PARAM

if TYPE_CHECKING:
    from tunery.tracking.search import Run

SETTLED_BY_ITEMS = ("limit", "split", "item count")  # ways to choose items: irrelevant if the same items came out


# ---- the one rule


def conditions_of(score: TaskScore) -> dict[str, str]:
    """Everything that must agree before another score of the task can be compared with this one, if known."""
    count = {"item count": str(score.items)} if score.items > 0 else {}
    return {"metric": score.metric, **score.conditions, **count}


def conflicts(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Conditions that both sides recorded with different values.

    Scores of different splits are of different items: a dev score is no stand-in for one on all items. Only an equal
    digest of the items shows that the split, the limit and the count did not matter.

    Args:
        one, other: From `conditions_of`.
    """
    differing = [key for key in one if key in other and one[key] != other[key]]
    same_items = "items" in one and one["items"] == other.get("items")
    return [key for key in differing if not (same_items and key in SETTLED_BY_ITEMS)]


# ---- what a run logged


def task_scores(run: Run) -> dict[str, TaskScore]:
    """Scores of the run's tasks, in its order; tasks without a value are left out.

    The score of a run whose checkpoint or settings were chosen on dev items is that of its locked items, if logged.
    """
    metrics = metrics_of(run)
    texts = {
        name.removeprefix(TASK_PARAM): text for name, text in run.data.params.items() if name.startswith(TASK_PARAM)
    }
    scores = [_score(task, text, metrics, is_bare(run)) for task, text in texts.items()]
    return {score.task: score for score in scores if score is not None}


def metrics_of(run: Run) -> dict[str, float]:
    """All that the run logged. MLflow's databases hold no infinity: they keep the largest float instead."""
    most = sys.float_info.max
    return {
        name: math.copysign(math.inf, value) if abs(value) >= most else value
        for name, value in run.data.metrics.items()
    }


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


def by_metric(score: TaskScore, metric: str, run: Run) -> TaskScore:
    """The same task by another metric of an import; unchanged if the import has no such metric."""
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
        "prompt": logged.get("prompt"),
        "few_shot": logged.get("few_shot"),
        "limit": ("all" if logged["limit"] is None else logged["limit"]) if "limit" in logged else None,
        "chat_template": logged.get("chat_template"),
        "split": "locked" if locked else "dev" if logged.get("split") == "dev" else "all",
        # Logged of all items: for the locked ones, only the answers show which they are.
        "items": None if locked else logged.get("items"),
        "system_prompt": logged.get("system_prompt"),
    }
    known = {key: value for key, value in known.items() if value not in (None, "")}
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in known.items()}
