"""How far a score or a difference may be off: the items that were asked, and the seeds that were trained with.

Each source of error is a `Stratum`; their variances add up. Reasoning and sources: docs/concepts/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special
from statsmodels.regression.linear_model import OLS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ROUNDING = 1e-12  # an error below is that of values which do not vary


@dataclass(frozen=True)
class ItemClusters:
    """Which items of a task are not independent, and which count more than others."""

    # Number of each item's shared text, shape (items,); None if every item is independent.
    passages: Integers | None = None
    # Number of each item's leaf task, shape (items,), where leaf tasks count alike whatever their sizes.
    leaves: Integers | None = None

    @classmethod
    def of(cls, passages: pd.Series | None, leaves: pd.Series | None) -> ItemClusters:
        """Number named passages and leaf tasks; an item without a passage is independent of all others."""
        numbers = None
        if passages is not None and passages.dropna().duplicated().any():
            numbers = pd.factorize(passages)[0]
            alone = numbers < 0
            numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
        return cls(numbers, None if leaves is None else pd.factorize(leaves)[0])

    @property
    def is_plain(self) -> bool:
        """Whether every item is independent and counts alike."""
        return self.passages is None and self.leaves is None

    @cached_property
    def is_crossed(self) -> bool:
        """Whether leaf tasks share passages, so that none of them can be taken by itself."""
        if self.passages is None or self.leaves is None:
            return False
        return len(set(zip(self.passages.tolist(), self.leaves.tolist(), strict=True))) > len(np.unique(self.passages))

    @cached_property
    def fewest_passages(self) -> int | None:
        """Number of texts, in the leaf task with the fewest; None where no items share one."""
        if self.passages is None:
            return None
        leaves = 0 if self.leaves is None else self.leaves
        counts = (
            pd.DataFrame({"passage": self.passages, "leaf": leaves}).groupby("leaf")["passage"].agg(["nunique", "size"])
        )
        shared = counts.loc[counts["nunique"] < counts["size"], "nunique"]
        return int(shared.min()) if len(shared) else len(np.unique(self.passages))

    def weights(self, items: int) -> Floats:
        """What each item adds to the task's score, shape (items,); their sum is 1."""
        if self.leaves is None:
            return np.full(items, 1 / items)
        sizes = np.bincount(self.leaves)
        return 1 / (np.count_nonzero(sizes) * sizes[self.leaves].astype(float))


@dataclass(frozen=True)
class ScoreMatrix:
    """The scores and answers of one configuration, or of a base. Greater is better throughout."""

    scores: Floats  # shape (seeds, tasks)
    errors: Floats  # standard error of one run's score, shape (tasks,); NaN if unknown
    # By task, each item's value averaged over the seeds, shape (items,); None if answers were not kept. Both sides of a
    # comparison have the items in the same order.
    answers: Sequence[Floats | None]

    @cached_property
    def score(self) -> float:
        """Mean over seeds and tasks."""
        return float(self.scores.mean())

    def on(self, *tasks: int) -> ScoreMatrix:
        """The same on some of its tasks, by their numbers."""
        chosen = list(tasks)
        return ScoreMatrix(self.scores[:, chosen], self.errors[chosen], [self.answers[task] for task in chosen])

    @classmethod
    def joined(cls, parts: Sequence[ScoreMatrix]) -> ScoreMatrix:
        """Several tasks of the same seeds, side by side."""
        answers = [task for part in parts for task in part.answers]
        return cls(np.hstack([part.scores for part in parts]), np.concatenate([part.errors for part in parts]), answers)


@dataclass(frozen=True)
class Stratum:
    """One source of error: what it estimates, its variance, and the degrees of freedom of that variance."""

    mean: float
    variance: float
    freedom: float

    def times(self, weight: float) -> Stratum:
        """The same as a part of a weighted sum."""
        return Stratum(weight * self.mean, weight**2 * self.variance, self.freedom)


@dataclass(frozen=True)
class Estimate:
    """A sum of strata."""

    mean: float
    error: float  # its standard error; NaN if unknown
    freedom: float  # degrees of freedom after Welch and Satterthwaite; 0 if the error is unknown

    def interval(self, confidence: float) -> tuple[float, float]:
        """The t interval; NaN where nothing varied, which says nothing about the next item."""
        if not (self.freedom > 0 and self.error > _ROUNDING):
            return math.nan, math.nan
        width = self.error * _quantile((1 + confidence) / 2, self.freedom)
        return self.mean - width, self.mean + width


@lru_cache(maxsize=4096)
def _quantile(share: float, freedom: float) -> float:
    # stats.t.ppf gives the same bits, and takes sixty times as long.
    return float(special.stdtrit(freedom, share))


def own_estimate(side: ScoreMatrix, clusters: Sequence[ItemClusters]) -> Estimate:
    """One side's own score with its error."""
    tasks = len(clusters)
    nothing = ScoreMatrix(np.zeros((1, tasks)), np.zeros(tasks), [None] * tasks)
    return estimate(side, nothing, side.answers, clusters)


def estimate(
    one: ScoreMatrix,
    other: ScoreMatrix,
    pairs: Sequence[Floats | None],
    clusters: Sequence[ItemClusters],
    adjusted: bool = False,
) -> Estimate:
    """The mean difference over tasks with its error.

    Args:
        pairs: By task, `one` - `other` item by item, shape (items,); None where they are not paired.
        clusters: One a task.
        adjusted: Whether a won and a lost item are added to each stratum of items, see `_adjusted`.
    """
    parts = [
        part.times(1 / len(pairs))
        for task, (pair, layout) in enumerate(zip(pairs, clusters, strict=True))
        for part in (
            [_unpaired(one, other, task)]
            if pair is None
            else _items(pair, layout, _whole_item(one, other, task, pair) if adjusted else None)
        )
    ]
    return _combined([*parts, *_seeds(one), *_seeds(other)])


def _whole_item(one: ScoreMatrix, other: ScoreMatrix, task: int, pair: Floats) -> float:
    """By how much the scores of an item that is won or lost differ.

    1 where each run scores an item 0 or 1, more for a metric above 1. A graded score, such as rougeL, hardly ever goes
    from 0 to 1: there it is the largest difference that was seen.
    """
    most = float(np.abs(pair).max())
    is_graded = any(
        answers is not None and not np.allclose(runs := answers * len(side.scores), np.rint(runs))
        for side in (one, other)
        for answers in (side.answers[task],)
    )
    return most if is_graded and most > _ROUNDING else max(1.0, most)


def _items(pair: Floats, clusters: ItemClusters, whole: float | None) -> Iterator[Stratum]:
    """The mean of paired differences, shape (items,); passages as clusters, leaf tasks as strata."""
    if clusters.leaves is None or clusters.is_crossed:
        yield _stratum(pair, clusters, whole)
        return
    # Each leaf by itself: the small ones make most of the variance. Pooled, leaves of 3 x 5 and 3 x 500 items had
    # 10.7 % false wins at a level of 5 %.
    leaves = np.unique(clusters.leaves)
    for leaf in leaves:
        inside = clusters.leaves == leaf
        passages = None if clusters.passages is None else clusters.passages[inside]
        yield _stratum(pair[inside], ItemClusters(passages), whole).times(1 / len(leaves))


def _stratum(pair: Floats, clusters: ItemClusters, whole: float | None) -> Stratum:
    if whole is not None:
        pair, clusters = _adjusted(pair, clusters, whole)
    if clusters.passages is not None:
        return _clustered(pair, clusters.passages, clusters.leaves)
    if len(pair) < 2:
        return Stratum(float(pair.mean()), math.nan, 0)
    return Stratum(float(pair.mean()), float(pair.var(ddof=1)) / len(pair), len(pair) - 1)


def _adjusted(pair: Floats, clusters: ItemClusters, whole: float) -> tuple[Floats, ItemClusters]:
    """One item won and one item lost, by `whole`, added to each leaf task, each with a passage of its own.

    Plain intervals have no width where all answers agree: eight equal answers would prove that nothing was lost. With
    the two added, an interval reaches about 2.8 / n to each side.

    Source: Bonett and Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, J. Educ. Behav. Stat. 37(4).
    """
    leaves = [0] if clusters.leaves is None else np.unique(clusters.leaves)
    added = np.tile([whole, -whole], len(leaves))
    passages, of_leaf = clusters.passages, clusters.leaves
    if passages is not None:
        passages = np.concatenate([passages, passages.max() + 1 + np.arange(len(added))])
    if of_leaf is not None:
        of_leaf = np.concatenate([of_leaf, np.repeat(leaves, 2)])
    return np.concatenate([pair, added]), ItemClusters(passages, of_leaf)


def _clustered(pair: Floats, passages: Integers, leaves: Integers | None) -> Stratum:
    """The same by least squares on a constant for each leaf task, errors clustered by passage."""
    _, groups = np.unique(passages, return_inverse=True)
    _, codes = np.unique(np.zeros(len(pair), int) if leaves is None else leaves, return_inverse=True)
    design = np.eye(codes.max() + 1)[codes]
    units, strata = int(groups.max()) + 1, design.shape[1]
    if units <= strata or (np.bincount(codes) < 2).any():
        return Stratum(float(pair.mean()), math.nan, 0)
    fitted = OLS(pair, design).fit(cov_type="cluster", cov_kwds={"groups": groups})
    mean = np.full(strata, 1 / strata)
    return Stratum(float(mean @ fitted.params), float(mean @ fitted.cov_params() @ mean), units - strata)


def _unpaired(one: ScoreMatrix, other: ScoreMatrix, task: int) -> Stratum:
    value = float(one.scores[:, task].mean() - other.scores[:, task].mean())
    variance = float(one.errors[task] ** 2 + other.errors[task] ** 2)
    # Without answers an error of 0 (all right, or all wrong) says nothing about how far chance reaches.
    return Stratum(value, variance, math.inf) if variance > 0 else Stratum(value, math.nan, 0)


def _seeds(side: ScoreMatrix) -> Iterator[Stratum]:
    """Variance of the mean over seeds: nothing can be said from one seed, so it speaks for itself alone."""
    seeds = len(side.scores)
    if seeds > 1:
        # Over the tasks' mean: a seed that does well on one task may do so on all.
        yield Stratum(0.0, float(side.scores.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)


def _combined(parts: Sequence[Stratum]) -> Estimate:
    """Root of the summed variances, with the degrees of freedom of Welch (1947) and Satterthwaite (1946)."""
    mean, variance = sum(part.mean for part in parts), sum(part.variance for part in parts)
    if math.isnan(variance):
        return Estimate(mean, math.nan, 0)
    if variance == 0:
        return Estimate(mean, 0.0, math.inf)
    spread = sum(part.variance**2 / part.freedom for part in parts)
    return Estimate(mean, math.sqrt(variance), variance**2 / spread if spread else math.inf)
