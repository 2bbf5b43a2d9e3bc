"""Is one configuration better than another? Item by item where answers are kept, over seeds where there are several.

Every command that compares two models asks `difference`, so that all print the same gain, interval and p-value.

Two things could have come out otherwise: the items that were asked, and the seeds that were trained with. Items that
several seeds answered are not several items: whatever makes an item hard does so for all of them, and a lucky seed is
lucky on many items. So seeds are averaged item by item, the items' error is that of the averaged differences, and each
side with two seeds or more adds the error of its mean over seeds. Reasoning and sources: docs/concepts/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar

from tunery.records.scores import Difference
from tunery.statistics.variance import Estimate, Floats, ItemClusters, ScoreMatrix, estimate

CONFIDENCE = 0.95
UNTESTED = "none: no error is known"
_RESAMPLES = 9_999
# Above, 9,999 resamples take long, and the t test is as good: sign flips of so many differences are nearly normal.
_MOST_FLIPPED = 200
# Above, the t test has settled that chance is not ruled out, and no second opinion is asked for.
_OUT_OF_QUESTION = 0.2


def difference(
    one: ScoreMatrix,
    other: ScoreMatrix,
    clusters: Sequence[ItemClusters],
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Test whether two configurations differ, and by how much.

    One run on each side: the exact McNemar test for 0/1 scores of independent items, otherwise a permutation test
    (sign flips of each item's difference, of a whole passage's where items share a text). Several seeds: a t test whose
    variance adds items and seeds (degrees of freedom by Welch and Satterthwaite); its p is never below that of the
    permutation test. Without answers on both sides: z, from standard errors of unpaired scores. The interval is the t
    interval of the same variance after one item won and one item lost were added (Bonett and Price 2012).

    Args:
        clusters: One a task.
        confidence: Of the interval.
        seed: Of the permutation test.

    Returns:
        The difference `one` - `other`, mean over the tasks.
    """
    value = float(_minus(one.score, other.score))
    pairs = [None if a is None or b is None else _minus(a, b) for a, b in zip(one.answers, other.answers, strict=True)]
    known = [pair for pair in pairs if pair is not None]
    paired = len(known) == len(pairs)
    found = estimate(one, other, pairs, clusters)
    low, high = estimate(one, other, pairs, clusters, adjusted=True).interval(confidence)
    seeds = max(len(one.scores), len(other.scores)) > 1
    p_of_t = _p_of_t(value, found)
    if not paired:
        p, test = p_of_t, "unpaired z, and seeds" if seeds else "unpaired z"
    elif seeds:
        # The t test needs many differing items; where few differ, the permutation test knows better.
        p, test = p_of_t, "paired t, items and seeds"
        if p <= _OUT_OF_QUESTION:
            p = max(p, _sign_flips(known, clusters, p_of_t, seed)[0])
    elif len(pairs) == 1 and clusters[0].is_plain and _is_binary(one.answers[0], other.answers[0]):
        p, test = _exact_mcnemar(known[0])
    else:
        p, test = _sign_flips(known, clusters, p_of_t, seed)
    return Difference(
        value, low, high, p, UNTESTED if math.isnan(p) else test,
        items=sum(map(len, known)) if paired else 0,
        changed=sum(int(np.count_nonzero(pair)) for pair in known) if paired else 0,
        passages=min((few for one in clusters if (few := one.fewest_passages) is not None), default=None),
        stderr=found.error, score=one.score, baseline=other.score,
    )  # fmt: skip


def _minus(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """The difference; 0 where only rounding makes one: the mean of three equal numbers may differ in its last digit."""
    alike = np.isclose(one, other, rtol=1e-9, atol=1e-12)
    return np.where(alike, 0.0, np.subtract(one, other))


def _is_binary(*sides: Floats | None) -> bool:
    return all(side is not None and bool(np.isin(side, (0.0, 1.0)).all()) for side in sides)


def _exact_mcnemar(pair: Floats) -> tuple[float, str]:
    """Of the items that changed, as many for the better as for the worse (McNemar 1947)."""
    better, worse = int((pair > 0).sum()), int((pair < 0).sum())
    return float(mcnemar([[0, better], [worse, 0]], exact=True).pvalue), "exact McNemar"


def _sign_flips(
    pairs: Sequence[Floats], clusters: Sequence[ItemClusters], p_of_t: float, seed: int
) -> tuple[float, str]:
    """p of the mean difference when each unit's difference might as well have the other sign (Fisher 1935)."""
    units = np.concatenate([_units(pair, layout) for pair, layout in zip(pairs, clusters, strict=True)])
    where = ", by passage" if any(layout.passages is not None for layout in clusters) else ""
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

    Of sorted sizes, so that neither the order of the items nor which side comes first changes p.
    """
    if 2 ** len(units) <= _RESAMPLES:
        every = {"permutation_type": "samples", "alternative": "greater", "n_resamples": np.inf}
        return float(stats.permutation_test((units,), _distance, **every).pvalue)
    rng, sizes = np.random.default_rng(seed), np.sort(np.abs(units))

    def flips(size: tuple[int, int]) -> Floats:
        return np.where(rng.integers(0, 2, size, dtype=np.int8), sizes, -sizes)

    drawn = {"vectorized": True, "alternative": "greater", "n_resamples": _RESAMPLES}
    return float(stats.monte_carlo_test(units, flips, _distance, **drawn).pvalue)


def _distance(units: Floats, axis: int = -1) -> Floats:
    far: Floats = np.abs(units.sum(axis=axis))
    return far


def _units(pair: Floats, clusters: ItemClusters) -> Floats:
    """What each unit that is independent of the others adds to the difference."""
    added = clusters.weights(len(pair)) * pair
    return added if clusters.passages is None else np.bincount(clusters.passages, weights=added).astype(np.float64)


def _p_of_t(value: float, found: Estimate) -> float:
    if not found.freedom > 0:
        return math.nan
    if found.error == 0:
        return float(value == 0)
    # stdtr is the distribution of t itself: stats.t.sf takes fifty times as long, for thousands of scores.
    return float(2 * special.stdtr(found.freedom, -abs(value) / found.error))
