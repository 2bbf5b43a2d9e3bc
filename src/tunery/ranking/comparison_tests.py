"""Is one configuration better than another? Item by item where answers are kept, over seeds where there are several.

Two things could have come out otherwise: the items that were asked, and the seeds that were trained with. Items that
several seeds answered are not several items: whatever makes an item hard does so for all of them, and a lucky seed is
lucky on many items. So seeds are averaged item by item, the items' error is that of the averaged differences, and each
side with two seeds or more adds the error of its mean over seeds. docs/statistics.md has the reasoning and sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import statsmodels.api as sm
from scipy import special, stats
from statsmodels.stats.weightstats import DescrStatsW

from tunery.ranking.comparison_records import Difference
from tunery.ranking.paired import exact_mcnemar, is_binary

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_RESAMPLES = 9_999
# Above, 9,999 resamples take long, and the t test is as good: sign flips of so many differences are nearly normal.
_MOST_FLIPPED = 200
# Above, the t test has settled that chance is not ruled out, and no second opinion is asked for.
_OUT_OF_QUESTION = 0.2
UNTESTED = "none: no error is known"


@dataclass(frozen=True)
class Layout:
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

    def weights(self, items: int) -> Floats:
        """What each item adds to the task's score, shape (items,); their sum is 1."""
        if self.leaves is None:
            return np.full(items, 1 / items)
        sizes = np.bincount(self.leaves)
        return 1 / (np.count_nonzero(sizes) * sizes[self.leaves].astype(float))


@dataclass(frozen=True)
class Side:
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

    def on(self, *tasks: int) -> Side:
        """The same on some of its tasks, by their numbers."""
        chosen = list(tasks)
        return Side(self.scores[:, chosen], self.errors[chosen], [self.answers[task] for task in chosen])


@dataclass(frozen=True)
class Part:
    """One source of error: a variance of the difference, and how many degrees of freedom it was estimated with."""

    variance: float
    freedom: float


def difference(
    one: Side, other: Side, layouts: Sequence[Layout], confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Test whether two configurations differ, and by how much.

    One run on each side: the exact McNemar test for 0/1 scores of items that stand alone, otherwise a permutation test
    (sign flips of each item's difference, of a whole passage's where items share a text). Several seeds: a t test whose
    variance adds items and seeds (degrees of freedom by Welch and Satterthwaite); its p is never below that of the
    permutation test. Without answers on both sides: z, from standard errors of unpaired scores.

    Args:
        layouts: One a task.
        confidence: Of the interval: the t interval of the same variance.
        seed: Of the permutation test.

    Returns:
        The difference `one` - `other`, mean over the tasks.
    """
    value = float(_minus(one.score, other.score))
    pairs = [None if a is None or b is None else _minus(a, b) for a, b in zip(one.answers, other.answers, strict=True)]
    error, freedom = _error(one, other, pairs, layouts)
    far = reach(error, freedom, confidence)
    p, test = _test(one, other, pairs, layouts, _p_of_t(value, error, freedom), seed)
    items = sum(len(pair) for pair in pairs if pair is not None) if _is_paired(pairs) else 0
    return Difference(value, value - far, value + far, p, test, items)


def _minus(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """The difference; 0 where only rounding makes one: the mean of three equal numbers may differ in its last digit."""
    alike = np.isclose(one, other, rtol=1e-9, atol=1e-12)
    return np.where(alike, 0.0, np.subtract(one, other))


def own_error(side: Side, layouts: Sequence[Layout]) -> tuple[float, float]:
    """Standard error of one side's own score, and its degrees of freedom; NaN where nothing is known."""
    nothing = Side(np.zeros((1, side.scores.shape[1])), np.zeros(len(side.errors)), [None] * len(side.errors))
    return _error(side, nothing, side.answers, layouts)


def reach(error: float, freedom: float, confidence: float) -> float:
    """How far an interval goes to either side."""
    return error * _quantile((1 + confidence) / 2, freedom) if freedom > 0 else math.nan


@lru_cache(maxsize=4096)
def _quantile(share: float, freedom: float) -> float:
    return float(stats.t.ppf(share, freedom))


# ---- the error


def _error(one: Side, other: Side, pairs: Sequence[Floats | None], layouts: Sequence[Layout]) -> tuple[float, float]:
    """Standard error and degrees of freedom of the mean difference over tasks."""
    tasks = len(pairs)
    parts = [
        _items(pair, layout) if pair is not None else _unpaired(one.errors[task], other.errors[task])
        for task, (pair, layout) in enumerate(zip(pairs, layouts, strict=True))
    ]
    shares = [Part(part.variance / tasks**2, part.freedom) for part in parts]
    return _combined([*shares, *_seeds(one), *_seeds(other)])


def _items(pair: Floats, layout: Layout) -> Part:
    """Variance of the mean of differences, shape (items,); passages as clusters, leaf tasks as strata."""
    units = len(pair) if layout.passages is None else len(np.unique(layout.passages))
    if units < 2:
        return Part(math.nan, 0)
    if layout.is_plain:
        return Part(float(DescrStatsW(pair).std_mean) ** 2, units - 1)
    return _regressed(pair, layout, units)


def _regressed(pair: Floats, layout: Layout, units: int) -> Part:
    """The same by least squares on a constant for each leaf task, errors clustered by passage."""
    leaves = np.zeros(len(pair), int) if layout.leaves is None else layout.leaves
    _, codes = np.unique(leaves, return_inverse=True)
    design = np.eye(codes.max() + 1)[codes]
    strata = design.shape[1]
    if units <= strata or (np.bincount(codes) < 2).any():
        return Part(math.nan, 0)
    model = sm.OLS(pair, design)
    if layout.passages is None:
        fitted = model.fit(cov_type="HC1")
    else:
        _, groups = np.unique(layout.passages, return_inverse=True)
        fitted = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    mean = np.full(strata, 1 / strata)
    return Part(float(mean @ fitted.cov_params() @ mean), units - strata)


def _unpaired(one: float, other: float) -> Part:
    variance = one**2 + other**2
    # Without answers an error of 0 (all right, or all wrong) says nothing about how far chance reaches.
    return Part(variance, math.inf) if variance > 0 else Part(math.nan, 0)


def _seeds(side: Side) -> Iterator[Part]:
    """Variance of the mean over seeds: nothing can be said from one seed, so it speaks for itself alone."""
    seeds = len(side.scores)
    if seeds > 1:
        # Over the tasks' mean: a seed that does well on one task may do so on all.
        yield Part(float(side.scores.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)


def _combined(parts: Sequence[Part]) -> tuple[float, float]:
    """Root of the summed variances, with the degrees of freedom of Welch (1947) and Satterthwaite (1946)."""
    variance = sum(part.variance for part in parts)
    if math.isnan(variance):
        return math.nan, 0
    if variance == 0:
        return 0.0, math.inf
    spread = sum(part.variance**2 / part.freedom for part in parts)
    return math.sqrt(variance), variance**2 / spread if spread else math.inf


# ---- the test


def _test(
    one: Side, other: Side, pairs: Sequence[Floats | None], layouts: Sequence[Layout], p_of_t: float, seed: int
) -> tuple[float, str]:
    seeds = max(len(one.scores), len(other.scores)) > 1
    if not _is_paired(pairs):
        test = "unpaired z, and seeds" if seeds else "unpaired z"
        return (math.nan, UNTESTED) if math.isnan(p_of_t) else (p_of_t, test)
    if not seeds and len(pairs) == 1 and layouts[0].is_plain and is_binary(*_first(one, other)):
        return exact_mcnemar(*_first(one, other))
    if not seeds:
        return _sign_flips(pairs, layouts, p_of_t, seed)
    if math.isnan(p_of_t):
        return math.nan, UNTESTED
    # The t test needs many differing items; where few differ, the permutation test knows better.
    p = p_of_t if p_of_t > _OUT_OF_QUESTION else max(p_of_t, _sign_flips(pairs, layouts, p_of_t, seed)[0])
    return p, "paired t, items and seeds"


def _sign_flips(
    pairs: Sequence[Floats | None], layouts: Sequence[Layout], p_of_t: float, seed: int
) -> tuple[float, str]:
    """p of the mean difference when each unit's difference might as well have the other sign (Fisher 1935)."""
    units = np.concatenate(
        [_units(pair, layout) for pair, layout in zip(pairs, layouts, strict=True) if pair is not None]
    )
    where = ", by passage" if any(layout.passages is not None for layout in layouts) else ""
    units = units[units != 0]  # a zero stays what it is under either sign
    if len(units) < 2:  # one that differs might as well differ the other way
        return 1.0, f"paired permutation{where}"
    if len(units) > _MOST_FLIPPED and not math.isnan(p_of_t):
        return p_of_t, f"paired t{where}"
    p = _flipped(units, seed)
    # No resample was as far out: how far, 9,999 of them cannot say, and the t test is conservative there (Efron 1969).
    beyond = 2 ** len(units) > _RESAMPLES and p < 2 / (_RESAMPLES + 1)
    return min(p, p_of_t) if beyond and not math.isnan(p_of_t) else p, f"paired permutation{where}"


def _flipped(units: Floats, seed: int) -> float:
    """Two-sided p of a sum under sign flips: all of them where they are few, else 9,999 drawn at random.

    Of sizes alone, so that a pair that is turned around has the same p.
    """
    if 2 ** len(units) <= _RESAMPLES:
        every = {"permutation_type": "samples", "alternative": "greater", "n_resamples": np.inf}
        return float(stats.permutation_test((units,), _distance, **every).pvalue)
    rng, sizes = np.random.default_rng(seed), np.abs(units)

    def flips(size: tuple[int, int]) -> Floats:
        return np.where(rng.integers(0, 2, size, dtype=np.int8), sizes, -sizes)

    drawn = {"vectorized": True, "alternative": "greater", "n_resamples": _RESAMPLES}
    return float(stats.monte_carlo_test(units, flips, _distance, **drawn).pvalue)


def _distance(units: Floats, axis: int = -1) -> Floats:
    far: Floats = np.abs(units.sum(axis=axis))
    return far


def _units(pair: Floats, layout: Layout) -> Floats:
    """What each unit that is independent of the others adds to the difference."""
    added = layout.weights(len(pair)) * pair
    return added if layout.passages is None else np.bincount(layout.passages, weights=added).astype(np.float64)


def _p_of_t(value: float, error: float, freedom: float) -> float:
    if not freedom > 0:
        return math.nan
    if error == 0:
        return float(value == 0)
    # stdtr is the distribution of t itself: stats.t.sf takes fifty times as long, for thousands of scores.
    return float(2 * special.stdtr(freedom, -abs(value) / error))


def _is_paired(pairs: Sequence[Floats | None]) -> bool:
    return all(pair is not None for pair in pairs)


def _first(one: Side, other: Side) -> tuple[Floats, Floats]:
    a, b = one.answers[0], other.answers[0]
    assert a is not None  # paired
    assert b is not None
    return a, b
