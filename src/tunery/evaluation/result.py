"""Numbers from results: the run's score, and a task's scores on the dev or the locked items alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from tunery.config.evaluation import EvaluationConfig
from tunery.records.scores import TaskResult

if TYPE_CHECKING:
    import pandas as pd

Averaging = Literal["items", "tasks"]


def headline(results: Mapping[str, TaskResult], evaluation: EvaluationConfig) -> float | None:
    """The run's `score`: the mean over the tasks of evaluation.primary; over all tasks where it names none.

    A metric of which less is better, such as perplexity, counts with a minus sign, so that greater is always better.

    Returns:
        The mean, or None when no task of the project has a primary score.
    """
    values = []
    for name in evaluation.primary or evaluation.names:
        score = results[name].scores.get(results[name].primary) if name in results else None
        if score is not None:
            values.append(score.value if score.higher_is_better else -score.value)
    return math.fsum(values) / len(values) if values else None


def restrict(result: TaskResult, split: Literal["dev", "locked"]) -> TaskResult:
    """A task's result on the items of one split.

    Only metrics that are means over items can be recomputed. Which ones are is not taken on trust: a metric is kept
    when the mean over all of the result's items is the score that lm-eval gave.

    Returns:
        The result with that split's samples; metrics that are no means are left out.
    """
    samples = result.samples
    part = samples[samples["split"] == split].reset_index(drop=True)
    scores = {}
    for metric, score in result.scores.items():
        how, items = averaging(result, metric), int(part[metric].count()) if metric in part else 0
        if how is not None and items:
            value, stderr = average(part, metric, how)
            scores[metric] = dataclasses.replace(score, value=value, stderr=stderr, items=items)
    return dataclasses.replace(result, scores=scores, samples=part)


def averaging(result: TaskResult, metric: str) -> Averaging | None:
    """How one of a task's scores is made of its items; None if it has no such score."""
    score = result.scores.get(metric)
    return None if score is None else averaging_of(result.samples, metric, score.value)


def averaging_of(samples: pd.DataFrame, metric: str, value: float) -> Averaging | None:
    """How a score is made of its items.

    Returns:
        "items": the mean over all items; "tasks": the mean of the leaf tasks' means, whatever their sizes; None:
        neither (a perplexity, say), so that nothing can be said item by item.
    """
    values = _by_task(samples, metric) if metric in samples else []
    if not values:
        return None
    if _close(_pooled_mean(values), value):
        return "items"
    return "tasks" if _close(fmean(map(fmean, values)), value) else None


def average(samples: pd.DataFrame, column: str, averaging: Averaging) -> tuple[float, float | None]:
    """Mean of a column and its standard error, each leaf task a stratum; NaN and None if no item has a value."""
    values = _by_task(samples, column)
    if not values:
        return math.nan, None
    variances = [_variance_of_mean(task) for task in values]
    if averaging == "items":  # sqrt(sum((n_i / n)^2 * se_i^2))
        mean, items = _pooled_mean(values), sum(map(len, values))
        weighted = ((len(task) / items) ** 2 * one for task, one in zip(values, variances, strict=True))
        variance = math.fsum(weighted)
    else:
        mean, variance = fmean(map(fmean, values)), math.fsum(variances) / len(values) ** 2
    return mean, math.sqrt(variance) if math.isfinite(variance) else None


def _by_task(samples: pd.DataFrame, metric: str) -> list[list[float]]:
    """Values of a metric on the items of each leaf task, items without one left out."""
    groups = samples.groupby("task", sort=False)[metric] if "task" in samples else [("", samples[metric])]
    values = [[float(value) for value in column.dropna()] for _, column in groups]
    return [task for task in values if task]


def _variance_of_mean(values: Sequence[float]) -> float:
    """s^2 / n with Bessel's correction, as lm-eval's mean_stderr; NaN for one item, which shows no spread."""
    if len(values) < 2:
        return math.nan
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)


def _pooled_mean(tasks: Sequence[Sequence[float]]) -> float:
    return fmean(value for values in tasks for value in values)


def _close(one: float, other: float) -> bool:
    # Scores of imported results are rounded to fewer digits than a double has.
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
