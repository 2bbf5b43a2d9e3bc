"""Is one configuration better than another? Item by item where answers are kept, over seeds where there are several.

Two things could have come out otherwise: the items that were asked, and the seeds that were trained with. Items that
several seeds answered are not several items: whatever makes an item hard does so for all of them, and a lucky seed is
lucky on many items. So seeds are averaged item by item, the items' error is that of the averaged differences, and each
side with two seeds or more adds the error of its mean over seeds. docs/statistics.md has the reasoning and sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from tunery.statistics.paired import exact_mcnemar, is_binary
from tunery.statistics.variance import Difference, Floats, ItemClusters, ScoreMatrix, error_of, reach

_RESAMPLES = 9_999
# Above, 9,999 resamples take long, and the t test is as good: sign flips of so many differences are nearly normal.
_MOST_FLIPPED = 200
# Above, the t test has settled that chance is not ruled out, and no second opinion is asked for.
_OUT_OF_QUESTION = 0.2
UNTESTED = "none: no error is known"


def difference(
    one: ScoreMatrix, other: ScoreMatrix, layouts: Sequence[ItemClusters], confidence: float = 0.95, seed: int = 0
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
    error, freedom = error_of(one, other, pairs, layouts)
    far = reach(error, freedom, confidence)
    p, test = _test(one, other, pairs, layouts, _p_of_t(value, error, freedom), seed)
    items = sum(len(pair) for pair in pairs if pair is not None) if _is_paired(pairs) else 0
    return Difference(value, value - far, value + far, p, test, items)


def _minus(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """The difference; 0 where only rounding makes one: the mean of three equal numbers may differ in its last digit."""
    alike = np.isclose(one, other, rtol=1e-9, atol=1e-12)
    return np.where(alike, 0.0, np.subtract(one, other))


def _test(
    one: ScoreMatrix,
    other: ScoreMatrix,
    pairs: Sequence[Floats | None],
    layouts: Sequence[ItemClusters],
    p_of_t: float,
    seed: int,
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
    pairs: Sequence[Floats | None], layouts: Sequence[ItemClusters], p_of_t: float, seed: int
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
    # No resample was as far out: how far, 9,999 of them cannot say, and the t test is conservative there (Efron 1969),
    # but knows nothing of the least p that all sign flips can give.
    beyond = 2 ** len(units) > _RESAMPLES and p < 2 / (_RESAMPLES + 1) and not math.isnan(p_of_t)
    return min(p, max(p_of_t, 2.0 ** (1 - len(units)))) if beyond else p, f"paired permutation{where}"


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


def _units(pair: Floats, layout: ItemClusters) -> Floats:
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


def _first(one: ScoreMatrix, other: ScoreMatrix) -> tuple[Floats, Floats]:
    a, b = one.answers[0], other.answers[0]
    assert a is not None  # paired
    assert b is not None
    return a, b
