"""Did the adapter change the answers? Tests that compare two models item by item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from tunery.records import TaskResult

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


def compare_items(base: pd.DataFrame, tuned: pd.DataFrame, task: str, metric: str) -> Paired | None:
    """Pair two models' answers by item and test the difference.

    0/1 scores get the exact McNemar test (McNemar 1947), others a paired permutation test of the mean difference
    (sign flips, 9,999 resamples, seeded). The interval is the t interval of the mean paired difference.

    Args:
        base, tuned: One row an item with columns item_id and `metric`.

    Returns:
        The comparison, or None when no item is answered by both.
    """
    both = _pair(base, tuned, metric)
    if both.empty:
        return None
    before, after = both["base"].to_numpy(float), both["tuned"].to_numpy(float)
    difference = after - before
    low, high = _interval(difference)
    p_value, test = _mcnemar(before, after) if _is_binary(before, after) else _permutation(difference)
    return Paired(task, metric, len(both), before.mean(), after.mean(), difference.mean(), low, high, p_value, test)


def compare_tasks(
    base: Mapping[str, TaskResult], tuned: Mapping[str, TaskResult], metrics: Mapping[str, str], split: str = "all"
) -> list[Paired]:
    """One comparison for each task of `metrics`, on the items of `split` (all, dev or locked)."""
    pairs = [
        _compare(base[task], tuned[task], metric, split)
        for task, metric in metrics.items()
        if task in base and task in tuned
    ]
    return [pair for pair in pairs if pair is not None]


def _compare(base: TaskResult, tuned: TaskResult, metric: str, split: str) -> Paired | None:
    pair = compare_items(_only(base.samples, split), _only(tuned.samples, split), tuned.settings.task, metric)
    score = tuned.scores.get(metric)
    return replace(pair, higher_is_better=score.higher_is_better) if pair is not None and score is not None else pair


def _only(samples: pd.DataFrame, split: str) -> pd.DataFrame:
    return samples if split == "all" else samples[samples["split"] == split]


def _pair(base: pd.DataFrame, tuned: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Join on item_id; an item that a task holds twice is paired first with first, second with second."""
    if metric not in base or metric not in tuned:
        return pd.DataFrame({"base": [], "tuned": []})
    sides = []
    for name, samples in (("base", base), ("tuned", tuned)):
        side = samples[["item_id", metric]].rename(columns={metric: name})
        sides.append(side.assign(nth=side.groupby("item_id").cumcount()))
    return sides[0].merge(sides[1], on=["item_id", "nth"]).dropna(subset=["base", "tuned"])


def _is_binary(before: np.ndarray, after: np.ndarray) -> bool:
    return bool(np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all())


def _interval(difference: np.ndarray) -> tuple[float, float]:
    if len(difference) < 2:
        return float("nan"), float("nan")
    low, high = DescrStatsW(difference).tconfint_mean(alpha=1 - CONFIDENCE)
    return float(low), float(high)


def _mcnemar(before: np.ndarray, after: np.ndarray) -> tuple[float, str]:
    table = [[int(((before == row) & (after == column)).sum()) for column in (1.0, 0.0)] for row in (1.0, 0.0)]
    return float(mcnemar(table, exact=True).pvalue), "exact McNemar"


def _permutation(difference: np.ndarray) -> tuple[float, str]:
    if not difference.any():
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
