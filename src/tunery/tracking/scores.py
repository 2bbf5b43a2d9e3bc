"""Task results -> the metrics of a run: tuned, base, and the difference with its paired error. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from tunery.evaluation.result import averaging
from tunery.evaluation.samples import items_digest
from tunery.records.scores import TaskResult
from tunery.tracking.entities import entity_name

TASK_PARAM = "task."
# Numbers that a run has once and a comparison shows: params, as MLflow draws a chart of each metric.
CONSTANTS = ("train_rows", "trainable_parameters", "model_bytes")


def score_metrics(base: Mapping[str, TaskResult], tuned: Mapping[str, TaskResult]) -> dict[str, dict[str, float]]:
    """By task: lm_eval/<task>/<metric> of the tuned model, base/..., delta/..., each with its `_stderr` if defined."""
    metrics: dict[str, dict[str, float]] = {task: {} for task in (*tuned, *base)}
    for task, result in tuned.items():
        metrics[task] |= task_scores(f"lm_eval/{task}", result)
    for task, result in base.items():
        metrics[task] |= task_scores(f"base/{task}", result)
        if task in tuned:
            metrics[task] |= _delta(f"delta/{task}", result, tuned[task])
    return metrics


def task_scores(prefix: str, result: TaskResult) -> dict[str, float]:
    """Scores of one task as <prefix>/<metric>, each with its `_stderr` where one is defined."""
    metrics = {}
    for name, score in result.scores.items():
        metrics[f"{prefix}/{name}"] = score.value
        if score.stderr is not None:
            metrics[f"{prefix}/{name}_stderr"] = score.stderr
    return metrics


def _delta(prefix: str, base: TaskResult, tuned: TaskResult) -> dict[str, float]:
    from tunery.statistics.paired import paired_stderr  # scipy and statsmodels take a second to import

    metrics = {}
    for name in (name for name in tuned.scores if name in base.scores):
        metrics[f"{prefix}/{name}"] = tuned.scores[name].value - base.scores[name].value
        how = averaging(tuned, name)
        error = paired_stderr(base.samples, tuned.samples, name, how) if how else None
        if error is not None:
            metrics[f"{prefix}/{name}_stderr"] = error
    return metrics


def task_conditions(
    result: TaskResult, metric: str, *, counts: bool, split: str, template: str | None = None
) -> dict[str, object]:
    """What must agree for two runs' scores of a task to be compared, and which of its metrics is meant.

    `counts` tells whether the task is part of the run's `score`, `split` the items: all, dev or locked; `template` is
    the chat template that items are asked through, as `models.template_settings.told` names it.
    """
    settings, score = result.settings, result.scores.get(metric)
    asked_through = {"template": template} if template and settings.chat_template else {}
    return {
        **{name: value for name, value in asdict(settings).items() if name != "task"},
        **asked_through,
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
