"""How far a score or a difference may be off: the items that were asked, and the seeds that were trained with.

The sources of error add up as `Part`s, each with the degrees of freedom that it was estimated with; docs/statistics.md
has the reasoning and sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ROUNDING = 1e-12  # an error below is that of values which do not vary


@dataclass(frozen=True)
class ItemClusters:
    """How the items of a task hang together.

    Args:
        passages: Number of each item's shared text, shape (items,); None where every item stands alone.
        leaves: Number of each item's leaf task, shape (items,), where leaf tasks count alike whatever their sizes.
    """

    passages: Integers | None = None
    leaves: Integers | None = None

    @property
    def is_plain(self) -> bool:
        """Whether every item stands alone and counts alike."""
        return self.passages is None and self.leaves is None

    @cached_property
    def is_crossed(self) -> bool:
        """Whether leaf tasks share passages, so that none of them can be taken by itself."""
        if self.passages is None or self.leaves is None:
            return False
        return len(set(zip(self.passages.tolist(), self.leaves.tolist(), strict=True))) > len(np.unique(self.passages))

    def weights(self, items: int) -> Floats:
        """What each item adds to the task's score, shape (items,); their sum is 1."""
        if self.leaves is None:
            return np.full(items, 1 / items)
        sizes = np.bincount(self.leaves)
        return 1 / (np.count_nonzero(sizes) * sizes[self.leaves].astype(float))


@dataclass(frozen=True)
class ScoreMatrix:
    """One configuration, or a base, on the tasks of a board. Greater is better throughout.

    Args:
        scores: Shape (seeds, tasks).
        errors: Standard error of one run's score, shape (tasks,); NaN where nobody says.
        answers: By task, each item's value averaged over the seeds, shape (items,); None where answers were not kept.
            Items come in the same order on every side.
    """

    scores: Floats
    errors: Floats
    answers: Sequence[Floats | None]

    @cached_property
    def score(self) -> float:
        """Mean over seeds and tasks."""
        return float(self.scores.mean())

    def on(self, *tasks: int) -> ScoreMatrix:
        """The same on some of its tasks, by their numbers."""
        chosen = list(tasks)
        return ScoreMatrix(self.scores[:, chosen], self.errors[chosen], [self.answers[task] for task in chosen])


@dataclass(frozen=True)
class Stratum:
    """One source of error: a variance of the difference, and how many degrees of freedom it was estimated with."""

    variance: float
    freedom: float


def own_error(side: ScoreMatrix, layouts: Sequence[ItemClusters]) -> tuple[float, float]:
    """Standard error of one side's own score, and its degrees of freedom; NaN where nothing is known."""
    nothing = ScoreMatrix(np.zeros((1, side.scores.shape[1])), np.zeros(len(side.errors)), [None] * len(side.errors))
    return error_of(side, nothing, side.answers, layouts)


def reach(error: float, freedom: float, confidence: float) -> float:
    """How far an interval goes to either side; NaN where nothing varied, which says nothing about the next item."""
    return error * _quantile((1 + confidence) / 2, freedom) if freedom > 0 and error > _ROUNDING else math.nan


@lru_cache(maxsize=4096)
def _quantile(share: float, freedom: float) -> float:
    return float(stats.t.ppf(share, freedom))


def error_of(
    one: ScoreMatrix, other: ScoreMatrix, pairs: Sequence[Floats | None], layouts: Sequence[ItemClusters]
) -> tuple[float, float]:
    """Standard error and degrees of freedom of the mean difference over tasks."""
    tasks = len(pairs)
    parts = [
        part
        for task, (pair, layout) in enumerate(zip(pairs, layouts, strict=True))
        for part in ([_unpaired(one.errors[task], other.errors[task])] if pair is None else _items(pair, layout))
    ]
    shares = [Stratum(part.variance / tasks**2, part.freedom) for part in parts]
    return _combined([*shares, *_seeds(one), *_seeds(other)])


def _items(pair: Floats, layout: ItemClusters) -> Iterator[Stratum]:
    """Variance of the mean of differences, shape (items,); passages as clusters, leaf tasks as strata."""
    if layout.leaves is None or layout.is_crossed:
        yield _pooled(pair, layout)
        return
    # Each leaf by itself: the small ones make most of the variance. Pooled, leaves of 3 x 5 and 3 x 500 items had
    # 10.7 % false wins at a level of 5 %.
    leaves = np.unique(layout.leaves)
    for leaf in leaves:
        inside = layout.leaves == leaf
        part = _pooled(pair[inside], ItemClusters(None if layout.passages is None else layout.passages[inside]))
        yield Stratum(part.variance / len(leaves) ** 2, part.freedom)


def _pooled(pair: Floats, layout: ItemClusters) -> Stratum:
    """The same in one part."""
    if layout.passages is not None:
        return _clustered(pair, layout.passages, layout.leaves)
    return Stratum(float(DescrStatsW(pair).std_mean) ** 2, len(pair) - 1) if len(pair) > 1 else Stratum(math.nan, 0)


def _clustered(pair: Floats, passages: Integers, leaves: Integers | None) -> Stratum:
    """The same by least squares on a constant for each leaf task, errors clustered by passage."""
    _, groups = np.unique(passages, return_inverse=True)
    _, codes = np.unique(np.zeros(len(pair), int) if leaves is None else leaves, return_inverse=True)
    design = np.eye(codes.max() + 1)[codes]
    units, strata = int(groups.max()) + 1, design.shape[1]
    if units <= strata or (np.bincount(codes) < 2).any():
        return Stratum(math.nan, 0)
    fitted = sm.OLS(pair, design).fit(cov_type="cluster", cov_kwds={"groups": groups})
    mean = np.full(strata, 1 / strata)
    return Stratum(float(mean @ fitted.cov_params() @ mean), units - strata)


def _unpaired(one: float, other: float) -> Stratum:
    variance = one**2 + other**2
    # Without answers an error of 0 (all right, or all wrong) says nothing about how far chance reaches.
    return Stratum(variance, math.inf) if variance > 0 else Stratum(math.nan, 0)


def _seeds(side: ScoreMatrix) -> Iterator[Stratum]:
    """Variance of the mean over seeds: nothing can be said from one seed, so it speaks for itself alone."""
    seeds = len(side.scores)
    if seeds > 1:
        # Over the tasks' mean: a seed that does well on one task may do so on all.
        yield Stratum(float(side.scores.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)


def _combined(parts: Sequence[Stratum]) -> tuple[float, float]:
    """Root of the summed variances, with the degrees of freedom of Welch (1947) and Satterthwaite (1946)."""
    variance = sum(part.variance for part in parts)
    if math.isnan(variance):
        return math.nan, 0
    if variance == 0:
        return 0.0, math.inf
    spread = sum(part.variance**2 / part.freedom for part in parts)
    return math.sqrt(variance), variance**2 / spread if spread else math.inf


@dataclass(frozen=True)
class Difference:
    """How much better one side is than another: above 0 the first is better, whatever the metric's direction.

    Args:
        value: First - second, turned where less is better.
        low, high: Its confidence interval; NaN where no error is known.
        p: Two-sided p-value for "no difference"; NaN where nothing could be tested.
        adjusted: p after the correction for all comparisons of its kind.
        test: Name of the test that gave p, or why there is none.
        items: Items that both sides answered; 0 where they were not paired.
    """

    value: float
    low: float
    high: float
    p: float
    test: str
    items: int = 0
    adjusted: float = math.nan

    def is_sure(self, confidence: float) -> bool:
        """Whether chance is ruled out at this confidence after the correction; what cannot be tested is not sure."""
        return self.adjusted <= 1 - confidence
