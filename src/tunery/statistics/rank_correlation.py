"""Whether a lower validation loss goes with a better score: a rank correlation over checkpoints or trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from tunery.records.scores import FEWEST_RANKED, RankCorrelation
from tunery.statistics.variance import Floats

_RESAMPLES = 9_999  # up to seven pairs have fewer orders than that, and all of them are tried


def loss_and_score(losses: Sequence[float], scores: Sequence[float]) -> RankCorrelation:
    """Spearman's rank correlation of losses and scores, with the p-value of a permutation test.

    Args:
        losses: Nats per target token, over the same tokens; at least one.
        scores: Of the same checkpoints or trials, greater being better.

    Returns:
        The coefficient and its two-sided p-value: NaN below 5 pairs, and where all losses or all scores are equal.

    Source: Spearman 1904; scipy.stats.permutation_test with pairings, as scipy's documentation of spearmanr advises for
        small samples.
    """
    chosen = scores[int(np.argmin(losses))]
    known = RankCorrelation(len(losses), math.nan, math.nan, by_loss=chosen, best=max(scores))
    if len(losses) < FEWEST_RANKED or len(set(losses)) == 1 or len(set(scores)) == 1:
        return known
    ranks, others = (_standardised(stats.rankdata(values)) for values in (losses, scores))

    def coefficient(permuted: Floats, axis: int = -1) -> Floats:
        product: Floats = np.sum(permuted * others, axis=axis)
        return product

    tested = stats.permutation_test(
        (ranks,), coefficient, permutation_type="pairings", n_resamples=_RESAMPLES, vectorized=True,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return RankCorrelation(len(losses), float(tested.statistic), float(tested.pvalue), by_loss=chosen, best=max(scores))


def _standardised(ranks: Floats) -> Floats:
    """Of mean 0 and length 1, so that a product of two is their correlation."""
    centred: Floats = ranks - ranks.mean()
    unit: Floats = centred / np.linalg.norm(centred)
    return unit
