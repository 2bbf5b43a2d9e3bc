"""Two models' answers to the same items: stored samples become the arrays of a test, tested tasks become rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunery.evaluation.result import Averaging, averaging, restrict
from tunery.records.scores import Difference, TaskResult
from tunery.statistics.significance import CONFIDENCE, difference
from tunery.statistics.variance import Floats, ItemClusters, ScoreMatrix, estimate

Results = Mapping[str, TaskResult]


@dataclass(frozen=True)
class TaskDifference:
    """A tuned model beside its base on one task, in the metric's own direction."""

    task: str
    metric: str
    items: int  # items of the scores
    difference: Difference  # above 0 where the tuned model is better, whatever the metric's direction
    higher_is_better: bool = True

    @property
    def base(self) -> float:
        """Mean of the metric over the items, of the base."""
        return self._sign * self.difference.baseline

    @property
    def tuned(self) -> float:
        """Mean of the metric over the items, of the tuned model."""
        return self._sign * self.difference.score

    @property
    def delta(self) -> float:
        """tuned - base."""
        return self._sign * self.difference.value

    @property
    def low(self) -> float:
        """Lower end of the delta's interval."""
        return self.difference.low if self.higher_is_better else -self.difference.high

    @property
    def high(self) -> float:
        """Upper end of the delta's interval."""
        return self.difference.high if self.higher_is_better else -self.difference.low

    @property
    def _sign(self) -> int:
        return 1 if self.higher_is_better else -1


def compare_tasks(
    base: Results, tuned: Results, metrics: Mapping[str, str], split: str = "all"
) -> list[TaskDifference]:
    """One comparison for each task of `metrics`, on the items of `split`: all, locked, or dev of dev results.

    A metric that is no mean over items is compared without them, by its standard errors.
    """
    if split == "locked":
        base, tuned = ({task: restrict(one, "locked") for task, one in side.items()} for side in (base, tuned))
    found = []
    for task, metric in metrics.items():
        both = [side[task] for side in (base, tuned) if task in side and metric in side[task].scores]
        if len(both) < 2:
            continue
        how = averaging(both[1], metric)
        sides = _of_results(both[:1], both[1:], metric, how) if how else _unpaired(both[0], both[1], metric)
        if sides is not None:
            score, tested = both[1].scores[metric], difference(sides.after, sides.before, [sides.clusters])
            found.append(TaskDifference(task, metric, tested.items or score.items, tested, score.higher_is_better))
    return found


def compare_scores(
    before: Sequence[Results],
    after: Sequence[Results],
    metrics: Mapping[str, str],
    confidence: float = CONFIDENCE,
) -> Difference | None:
    """The difference in score between two models, or two configurations with several seeds, paired item by item.

    Args:
        before, after: Results by task, one a seed, on the same items.
        metrics: The metric of each task; tasks count alike.
        confidence: Of the interval.

    Returns:
        after - before; None if a metric is no mean over items, or no item of a task was answered by all.
    """
    tasks = []
    for task, metric in metrics.items():
        runs = [seed[task] for seed in (*before, *after) if task in seed]
        tuned = runs[len(before) :]
        ways = [averaging(run, metric) for run in tuned]
        if len(runs) < len(before) + len(after) or ways[0] is None or None in ways:
            return None
        tasks.append(_of_results(runs[: len(before)], tuned, metric, ways[0]))
    known = [task for task in tasks if task is not None]
    if not known or len(known) < len(tasks):
        return None
    one, other = (ScoreMatrix.joined([getattr(task, side) for task in known]) for side in ("after", "before"))
    return difference(one, other, [task.clusters for task in known], confidence)


def paired_stderr(base: pd.DataFrame, tuned: pd.DataFrame, metric: str, averaging: Averaging = "items") -> float | None:
    """Standard error of the mean difference between two models on the same items, as `Difference.stderr`.

    Smaller than the error of the difference of two means, because what makes an item hard does so for both.

    Args:
        base, tuned: One row an item, with `item_id` and the metric's column.
        averaging: How the score is made of its items.

    Returns:
        The error, or None if the two do not have the same items, at least two, or the metric is no column.

    Source: Miller, Adding Error Bars to Evals, arXiv:2411.00640, section 4.2.
    """
    sides = _paired([base], [tuned], metric, averaging)
    pair = None if sides is None else sides.differences
    if sides is None or pair is None or len(pair) < 2 or not len(pair) == len(base) == len(tuned):
        return None
    error = estimate(sides.after, sides.before, [pair], [sides.clusters]).error
    return error if math.isfinite(error) else None


def item_ids(samples: pd.DataFrame) -> pd.Index:
    """Names of items that are unlike one another; an item that a task holds twice has a number the second time."""
    found: pd.Index = pd.Index(samples["item_id"])
    if found.is_unique:
        return found
    nth = samples.groupby("item_id").cumcount().to_numpy()
    distinct: pd.Index = found.where(nth == 0, found.astype(str) + " #" + nth.astype(str))
    return distinct


@dataclass(frozen=True)
class _Sides:
    """Both sides of a comparison on one task."""

    before: ScoreMatrix
    after: ScoreMatrix
    clusters: ItemClusters

    @property
    def differences(self) -> Floats | None:
        """after - before, item by item."""
        before, after = self.before.answers[0], self.after.answers[0]
        return None if before is None or after is None else after - before


def _of_results(
    before: Sequence[TaskResult], after: Sequence[TaskResult], metric: str, averaging: Averaging
) -> _Sides | None:
    earlier, later = [run.samples for run in before], [run.samples for run in after]
    return _paired(earlier, later, metric, averaging, _sign(after[0], metric))


def _paired(
    before: Sequence[pd.DataFrame], after: Sequence[pd.DataFrame], metric: str, averaging: Averaging, sign: int = 1
) -> _Sides | None:
    """The items that all seeds of both sides answered; None if there is none."""
    runs = [*before, *after]
    if any(not {"item_id", metric} <= set(run) for run in runs):
        return None
    values = pd.concat([_values(run, metric) for run in runs], axis=1, join="inner")
    if values.empty:
        return None
    clusters = _clusters(runs, values.index, averaging == "tasks")
    matrix = sign * values.to_numpy().T
    return _Sides(_matrix(matrix[: len(before)], clusters), _matrix(matrix[len(before) :], clusters), clusters)


def _values(samples: pd.DataFrame, metric: str) -> pd.Series:
    return pd.Series(samples[metric].to_numpy(float), index=item_ids(samples)).dropna()


def _clusters(runs: Sequence[pd.DataFrame], items: pd.Index, by_leaf: bool) -> ItemClusters:
    # Runs that know which items share a passage speak for those that do not.
    first = max(runs, key=lambda samples: "passage" in samples)
    known = first.set_index(item_ids(first)).loc[items]
    return ItemClusters.of(known.get("passage"), known["task"] if by_leaf else None)


def _matrix(values: Floats, clusters: ItemClusters) -> ScoreMatrix:
    """One task's side from its values, shape (seeds, items)."""
    scores = values.mean(axis=1) if clusters.leaves is None else values @ clusters.weights(values.shape[1])
    return ScoreMatrix(scores[:, None], np.array([math.nan]), [values.mean(axis=0)])


def _unpaired(before: TaskResult, after: TaskResult, metric: str) -> _Sides:
    def side(run: TaskResult) -> ScoreMatrix:
        score = run.scores[metric]
        error = math.nan if score.stderr is None else score.stderr
        return ScoreMatrix(np.array([[_sign(after, metric) * score.value]]), np.array([error]), [None])

    return _Sides(side(before), side(after), ItemClusters())


def _sign(run: TaskResult, metric: str) -> int:
    return 1 if run.scores[metric].higher_is_better else -1
