"""Rank correlation of losses and scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tunery.records.scores import RankCorrelation
from tunery.reporting.rank_correlation import correlation_label, correlation_meaning
from tunery.statistics.rank_correlation import loss_and_score


def test_the_p_value_counts_every_order_that_is_as_extreme() -> None:
    losses, scores = [0.5, 0.3, 0.4, 0.2, 0.1], [0.1, 0.4, 0.2, 0.5, 0.3]
    found = loss_and_score(losses, scores)
    assert found.rho == pytest.approx(stats.spearmanr(losses, scores).statistic)
    rhos = [stats.spearmanr(losses, order).statistic for order in itertools.permutations(scores)]
    one_sided = np.mean([rho <= found.rho + 1e-9 for rho in rhos])
    assert found.p_value == pytest.approx(2 * one_sided)


def test_ties_share_their_rank() -> None:
    losses, scores = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.3, 0.5, 0.5, 0.4, 0.2, 0.1, 0.1, 0.2]
    found = loss_and_score(losses, scores)
    assert found.rho == pytest.approx(stats.spearmanr(losses, scores).statistic)
    assert found == loss_and_score(losses, scores), "the same orders are drawn again"


def test_what_a_choice_by_loss_would_have_scored_is_known() -> None:
    found = loss_and_score([0.9, 0.4, 0.5], [0.1, 0.2, 0.7])
    assert (found.by_loss, found.best) == (0.2, 0.7)


@pytest.mark.parametrize(
    ("losses", "scores", "said"),
    [
        ([4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], "n = 4: too few for a rank correlation"),
        ([3.0, 3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0], "n = 5: no rank correlation, as one of the two never"),
    ],
)
def test_where_nothing_can_be_said_no_number_is_given(losses: list[float], scores: list[float], said: str) -> None:
    found = loss_and_score(losses, scores)
    assert math.isnan(found.rho)
    assert math.isnan(found.p_value)
    assert correlation_label(found).startswith(said)


@pytest.mark.parametrize(
    ("rho", "p", "said"),
    [
        (-0.9, 0.003, "less loss went with a better score"),
        (-0.9, 0.08, "the loss does not tell which of them scores better: judge by the score"),
        (0.9, 0.003, "whoever judged by loss judged against the score"),
    ],
)
def test_the_sentence_says_what_it_means_to_who_judged_by_loss(rho: float, p: float, said: str) -> None:
    text = correlation_meaning(RankCorrelation(8, rho, p, by_loss=0.5, best=0.75), "checkpoint")
    assert said in text
    assert "The checkpoint of least loss scores 0.5000 on dev items, the best of them 0.7500." in text
