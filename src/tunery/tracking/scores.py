"""Task results -> the metrics of a run: tuned, base, and the difference with its paired error. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tunery.evaluation.result import averaging
from tunery.evaluation.samples import items_digest
from tunery.records import Score, TaskResult
from tunery.tracking.writer import entity_name

TASK_PARAM = "task."


@dataclass(frozen=True)
class ScoreMetric:
    """A metric of a run and the task whose items it was measured on."""

    key: str
    value: float
    task: str


def score_metrics(base: Mapping[str, TaskResult], tuned: Mapping[str, TaskResult]) -> list[ScoreMetric]:
    """lm_eval/<task>/<metric>, base/..., delta/..., each with its `_stderr` where one is defined.

    Args:
        base: The base model's results by task; a task that is missing there gets no base and delta.
        tuned: The adapter's results by task.

    Returns:
        Metrics in the order of the tasks.
    """
    metrics = [metric for task, result in tuned.items() for metric in _own("lm_eval", task, result)]
    metrics += [metric for task, result in base.items() for metric in _own("base", task, result)]
    for task in tuned:
        if task in base:
            metrics += _delta(task, base[task], tuned[task])
    return metrics


def task_conditions(result: TaskResult, metric: str, *, counts: bool, split: str) -> dict[str, object]:
    """What must agree for two runs' scores of a task to be compared, and which of its metrics is meant.

    Args:
        result: The task's result.
        metric: The metric that is shown of it.
        counts: Whether the task is part of the run's `score`.
        split: Items that the score is computed on: all, dev or locked.
    """
    settings, score = result.settings, result.scores.get(metric)
    return {
        **{name: value for name, value in asdict(settings).items() if name != "task"},
        "split": split,
        "items": items_digest(result.samples["item_id"]),
        "count": len(result.samples),
        "metric": metric,
        "higher_is_better": score is None or score.higher_is_better,
        "counts": counts,
    }


def task_params(conditions: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Conditions by task as a run's params, named task.<name>; the value holds the name where MLflow changes it."""
    return {
        f"{TASK_PARAM}{task}": json.dumps(dict(known) if task == entity_name(task) else {**known, "task": task})
        for task, known in conditions.items()
    }


def _own(prefix: str, task: str, result: TaskResult) -> list[ScoreMetric]:
    return [
        metric
        for name, score in result.scores.items()
        for metric in _with_error(f"{prefix}/{task}/{name}", task, score.value, score.stderr)
    ]


def _delta(task: str, base: TaskResult, tuned: TaskResult) -> list[ScoreMetric]:
    from tunery.statistics.paired import paired_stderr  # scipy and statsmodels take a second to import

    metrics: list[ScoreMetric] = []
    for name in (name for name in tuned.scores if name in base.scores):
        before: Score = base.scores[name]
        gain = tuned.scores[name].value - before.value
        how = averaging(tuned, name)
        error = paired_stderr(base.samples, tuned.samples, name, how) if how else None
        metrics += _with_error(f"delta/{task}/{name}", task, gain, error)
    return metrics


def _with_error(key: str, task: str, value: float, stderr: float | None) -> list[ScoreMetric]:
    error = [] if stderr is None else [ScoreMetric(f"{key}_stderr", stderr, task)]
    return [ScoreMetric(key, value, task), *error]
