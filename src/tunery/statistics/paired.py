"""Did the adapter change the answers? Tests that compare two models item by item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from tunery.evaluation.result import Averaging, averaging, mean_over_tasks, pair_items, restrict
from tunery.records import Gain, Score, TaskResult

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
_RESAMPLES = 9_999


@dataclass(frozen=True)
class Paired:
    """Two models on the same items of one task.

    Args:
        items: Items that both answered.
        base, tuned: Mean of the metric over those items.
        delta: tuned - base; `low` and `high` bound it at CONFIDENCE.
        p_value: Two-sided, for "no difference".
        test: Name of the test that gave it.
    """

    task: str
    metric: str
    items: int
    base: float
    tuned: float
    delta: float
    low: float
    high: float
    p_value: float
    test: str
    higher_is_better: bool = True

    @property
    def gain(self) -> float:
        """delta, with the sign turned where less is better, such as perplexity: above 0 is an improvement."""
        return self.delta if self.higher_is_better else -self.delta


def compare_items(
    base: pd.DataFrame, tuned: pd.DataFrame, task: str, metric: str, averaging: Averaging = "items"
) -> Paired | None:
    """Pair two models' answers by item and test the difference.

    0/1 scores get the exact McNemar test (McNemar 1947), others a paired permutation test of the mean difference
    (sign flips, 9,999 resamples, seeded). The interval is the t interval of the mean paired difference. Where the leaf
    tasks of a group count alike whatever their sizes, each item is weighed by 1 / (tasks * items of its task), the test
    is the permutation test of that weighted mean, and the interval is normal with each task as a stratum.

    Args:
        base, tuned: One row an item with columns item_id and `metric`, and `task` where there are several.
        averaging: How the score is made of its items.

    Returns:
        The comparison, or None when no item is answered by both.
    """
    both = pair_items(base, tuned, metric)
    if both.empty:
        return None
    if averaging == "tasks":
        return _compare_over_tasks(both, task, metric)
    before, after, difference = (both[name].to_numpy(float) for name in ("base", "tuned", "difference"))
    low, high = _interval(difference)
    p_value, test = exact_mcnemar(before, after) if is_binary(before, after) else _permutation(difference)
    return Paired(task, metric, len(both), before.mean(), after.mean(), difference.mean(), low, high, p_value, test)


def _compare_over_tasks(both: pd.DataFrame, task: str, metric: str) -> Paired:
    (before, _), (after, _), (delta, error) = (mean_over_tasks(both, name) for name in ("base", "tuned", "difference"))
    reach = math.nan if error is None else error * float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    sizes = both.groupby("task")["task"].transform("size").to_numpy(float)
    # Scaled so that their plain mean is the mean over tasks.
    scaled = both["difference"].to_numpy(float) * len(both) / (both["task"].nunique() * sizes)
    p_value, test = _permutation(scaled)
    return Paired(
        task, metric, len(both), before, after, delta, delta - reach, delta + reach, p_value, f"{test}, tasks alike"
    )


def compare_tasks(
    base: Mapping[str, TaskResult], tuned: Mapping[str, TaskResult], metrics: Mapping[str, str], split: str = "all"
) -> list[Paired]:
    """One comparison for each task of `metrics`, on the items of `split`: all, locked, or dev of dev results."""
    pairs = [
        _compare(base[task], tuned[task], metric, split)
        for task, metric in metrics.items()
        if task in base and task in tuned
    ]
    return [pair for pair in pairs if pair is not None]


def _compare(base: TaskResult, tuned: TaskResult, metric: str, split: str) -> Paired | None:
    if split == "locked":
        base, tuned = restrict(base, "locked"), restrict(tuned, "locked")
    score, before = tuned.scores.get(metric), base.scores.get(metric)
    if score is None or before is None:
        return None
    how = averaging(tuned, metric)
    if how is None:
        return _without_items(before, score)
    pair = compare_items(base.samples, tuned.samples, tuned.settings.task, metric, how)
    return replace(pair, higher_is_better=score.higher_is_better) if pair else None


def _without_items(base: Score, tuned: Score) -> Paired:
    """A metric that is no mean over items: both values, and nothing that would need items."""
    delta, unknown = tuned.value - base.value, math.nan
    return Paired(
        tuned.task, tuned.metric, tuned.items, base.value, tuned.value, delta, unknown, unknown, unknown,
        "none: no mean over items", tuned.higher_is_better,
    )  # fmt: skip


def is_binary(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether every value is 0 or 1, so that McNemar's test applies."""
    return bool(np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all())


def _interval(difference: np.ndarray) -> tuple[float, float]:
    if len(difference) < 2:
        return float("nan"), float("nan")
    low, high = DescrStatsW(difference).tconfint_mean(alpha=1 - CONFIDENCE)
    return float(low), float(high)


def exact_mcnemar(before: np.ndarray, after: np.ndarray) -> tuple[float, str]:
    """p-value of two models' 0/1 scores on the same items, shape (items,), and the test's name."""
    table = [[int(((before == row) & (after == column)).sum()) for column in (1.0, 0.0)] for row in (1.0, 0.0)]
    return float(mcnemar(table, exact=True).pvalue), "exact McNemar"


def _permutation(difference: np.ndarray) -> tuple[float, str]:
    if np.count_nonzero(difference) < 2:  # one that differs might as well differ the other way
        return 1.0, "paired permutation"
    outcome = stats.permutation_test(
        (difference, np.zeros_like(difference)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(outcome.pvalue), "paired permutation"


Results = Mapping[str, TaskResult]


def gain(before: Sequence[Results], after: Sequence[Results], primary: Mapping[str, str]) -> Gain | None:
    """The difference in score between two configurations, with its interval and p-value.

    An item's value is the mean over a configuration's seeds. Items are compared in pairs, tasks count alike as in the
    score; see `compare_items` for the tests. The interval is about the items: that other seeds would train other
    adapters is in the seeds' spread, not here.

    Args:
        before, after: Results by task, one a seed, on the same items.
        primary: The metric of each task that counts.

    Returns:
        The gain, or None where a metric is no mean over items or none was scored.
    """
    sides = [_items(side, primary) for side in (before, after)]
    if sides[0] is None or sides[1] is None:
        return None
    pair = compare_items(sides[0], sides[1], "score", "value", "tasks" if len(primary) > 1 else "items")
    return None if pair is None else Gain(pair.delta, pair.low, pair.high, pair.p_value)


def _items(seeds: Sequence[Results], primary: Mapping[str, str]) -> pd.DataFrame | None:
    """One row an item: item_id, task, and its value as it counts towards the score, averaged over the seeds."""
    import pandas as pd

    frames = [_of_task(results.get(task), task, metric) for results in seeds for task, metric in primary.items()]
    whole = [frame for frame in frames if frame is not None]
    if not whole or len(whole) < len(frames):
        return None
    means = pd.concat(whole).groupby(["task", "item_id", "nth"], sort=False)["value"].mean()
    return means.reset_index()


def _of_task(result: TaskResult | None, task: str, metric: str) -> pd.DataFrame | None:
    how = averaging(result, metric) if result is not None else None
    if result is None or how is None:
        return None
    samples = result.samples.dropna(subset=[metric])
    values = samples[metric].astype(float) * (1 if result.scores[metric].higher_is_better else -1)
    if how == "tasks":  # scaled so that their plain mean is the mean over the group's tasks
        sizes = samples.groupby("task")["task"].transform("size")
        values = values * len(samples) / (samples["task"].nunique() * sizes)
    nth = samples.groupby("item_id").cumcount()
    return samples[["item_id"]].assign(task=task, value=values, nth=nth)
