"""Differences of two configurations against values worked out by other means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunery.statistics.significance import UNTESTED, difference
from tunery.statistics.variance import Estimate, ItemClusters, ScoreMatrix, estimate, own_estimate

RNG = np.random.default_rng(3)


def side(answers: object, error: float | None = None) -> ScoreMatrix:
    """A side of one task from answers of shape (seeds, items) or (items,)."""
    values = np.atleast_2d(np.asarray(answers, dtype=float))
    own = float(values[0].std(ddof=1) / math.sqrt(values.shape[1])) if error is None else error
    return ScoreMatrix(values.mean(axis=1, keepdims=True), np.array([own]), [values.mean(axis=0)])


def own_error(one: ScoreMatrix, clusters: list[ItemClusters]) -> tuple[float, float]:
    found = own_estimate(one, clusters)
    return found.error, found.freedom


def won_and_lost(differences: np.ndarray) -> np.ndarray:
    """With the two items that Bonett and Price add."""
    return np.append(differences, [1.0, -1.0])


def graded_won_and_lost(differences: np.ndarray) -> np.ndarray:
    """The same of graded scores: the two differ as the item that changed most."""
    most = np.abs(differences).max()
    return np.append(differences, [most, -most])


def silent(one: ScoreMatrix) -> ScoreMatrix:
    return ScoreMatrix(one.scores, one.errors, [None] * len(one.answers))


def test_0_1_scores_of_one_seed_get_the_exact_mcnemar_test() -> None:
    one, other = [1.0] * 12 + [0.0] * 2 + [1.0] * 6, [0.0] * 12 + [1.0] * 2 + [1.0] * 6
    found = difference(side(one), side(other), [ItemClusters()])
    assert found.test == "exact McNemar"
    assert found.p_value == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert (found.value, found.items) == (pytest.approx(0.5), 20)


def test_the_interval_is_that_of_the_paired_t_test_with_an_item_won_and_an_item_lost() -> None:
    one, other = RNG.integers(0, 2, 40).astype(float), RNG.integers(0, 2, 40).astype(float)
    found = difference(side(one), side(other), [ItemClusters()], confidence=0.9)
    expected = stats.ttest_1samp(won_and_lost(one - other), 0).confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.stderr == pytest.approx(stats.sem(one - other))


def test_of_graded_scores_the_item_won_and_the_item_lost_differ_as_the_one_that_changed_most() -> None:
    other = 0.2 + 0.1 * RNG.random(40)
    one = other + 0.05 + 0.1 * RNG.standard_normal(40)
    found = difference(side(one), side(other), [ItemClusters()])
    expected = stats.ttest_1samp(graded_won_and_lost(one - other), 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_a_small_gain_of_graded_scores_that_is_no_chance_has_an_interval_above_0() -> None:
    other = 0.2 + 0.1 * RNG.random(40)
    found = difference(side(other + RNG.uniform(0.02, 0.12, 40)), side(other), [ItemClusters()])
    assert found.p_value < 0.001
    assert found.low > 0


def test_equal_graded_scores_have_an_interval_as_wide_as_equal_answers() -> None:
    graded, answers = (difference(side(one), side(one), [ItemClusters()]) for one in (RNG.random(20), np.ones(20)))
    assert graded.low == pytest.approx(answers.low)
    assert graded.low < 0


def test_answers_of_several_seeds_are_not_graded() -> None:
    one, other = RNG.integers(0, 2, (2, 40)), RNG.integers(0, 2, (3, 40))
    pair = one.mean(axis=0) - other.mean(axis=0)
    found = estimate(side(one), side(other), [pair], [ItemClusters()], adjusted=True)
    assert found.mean == pytest.approx(won_and_lost(pair).mean())
    assert found.error >= stats.sem(won_and_lost(pair))


def test_both_scores_and_the_items_that_changed_are_kept() -> None:
    found = difference(side([1.0, 1.0, 0.0, 1.0]), side([0.0, 1.0, 1.0, 0.0]), [ItemClusters()])
    assert (found.score, found.baseline, found.changed, found.items) == (0.75, 0.5, 3, 4)


def test_the_order_of_the_items_does_not_matter() -> None:
    """Random sign flips are drawn for sizes in order, so that every command finds the same p."""
    one, other = RNG.random(80), RNG.random(80)
    shuffled = RNG.permutation(80)
    found = difference(side(one), side(other), [ItemClusters()])
    again = difference(side(one[shuffled]), side(other[shuffled]), [ItemClusters()])
    assert found.test == "paired permutation"
    assert (again.p_value, again.low, again.high) == pytest.approx((found.p_value, found.low, found.high))


def test_a_few_graded_items_get_every_sign_flip() -> None:
    differences = np.array([0.5, 0.25, 0.125, 0.75, -0.0625, 0.3, 0.0])
    found = difference(side(differences), side(np.zeros(7)), [ItemClusters()])
    flips = [abs(np.dot(signs, differences[:6])) for signs in itertools.product((1, -1), repeat=6)]
    as_far = np.mean(np.array(flips) >= abs(differences.sum()) - 1e-12)
    assert found.test == "paired permutation"
    assert found.p_value == pytest.approx(as_far)


def test_more_graded_items_get_random_sign_flips_that_agree_with_the_t_test() -> None:
    one, noise = RNG.random(80), RNG.normal(0.05, 0.2, 80)
    found = difference(side(one + noise), side(one), [ItemClusters()])
    assert found.test == "paired permutation"
    assert found.p_value == pytest.approx(stats.ttest_1samp(noise, 0).pvalue, abs=0.02)


def test_many_graded_items_get_the_t_test() -> None:
    one, noise = RNG.random(400), RNG.normal(0.03, 0.2, 400)
    found = difference(side(one + noise), side(one), [ItemClusters()])
    assert found.test == "paired t"
    assert found.p_value == pytest.approx(stats.ttest_1samp(noise, 0).pvalue)


def test_a_p_value_is_not_held_up_by_the_number_of_resamples() -> None:
    one = RNG.random(100)
    found = difference(side(one + 0.3 + RNG.normal(0, 0.05, 100)), side(one), [ItemClusters()])
    assert found.test == "paired permutation"
    assert found.p_value < 1e-10  # 9,999 resamples alone cannot go below 1e-4, and Holm over many pairs needs less


def test_a_p_value_is_never_below_what_sign_flips_can_give() -> None:
    one = 0.5 + 0.001 * RNG.random(20)
    found = difference(side(one), side(np.zeros(20)), [ItemClusters()])
    assert found.test == "paired permutation"
    assert found.p_value == 2 / 2**20  # all signs alike, either way; the t test says 1e-60


def test_items_of_one_passage_are_flipped_together() -> None:
    passages = np.repeat(np.arange(6), 5)
    per_passage = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    found = difference(side(per_passage[passages]), side(np.zeros(30)), [ItemClusters(passages=passages)])
    assert found.p_value == pytest.approx(2 / 2**5)  # five passages, not 25 items
    assert found.test == "paired permutation, by passage"


def test_the_error_by_passages_of_equal_size_is_that_of_their_means() -> None:
    passages = np.repeat(np.arange(12), 4)
    values = RNG.normal(size=12)[passages] + RNG.normal(0, 0.1, 48)
    error, freedom = own_error(side(values), [ItemClusters(passages=passages)])
    means = values.reshape(12, 4).mean(axis=1)
    assert error == pytest.approx(stats.sem(means))
    assert freedom == 11


def test_leaf_tasks_that_count_alike_have_errors_of_their_own() -> None:
    leaves = np.repeat([0, 1], [10, 40])
    values = RNG.random(50)
    error, freedom = own_error(side(values), [ItemClusters(leaves=leaves)])
    errors = [stats.sem(values[leaves == leaf]) for leaf in (0, 1)]
    assert error == pytest.approx(math.hypot(*errors) / 2)
    assert freedom == pytest.approx(_welch(errors, (9, 39)))


def test_passages_within_leaf_tasks_have_errors_by_leaf_task() -> None:
    passages, leaves = np.repeat(np.arange(14), 4), np.repeat([0, 1], [16, 40])
    values = RNG.normal(size=14)[passages] + RNG.normal(0, 0.1, 56)
    error, freedom = own_error(side(values), [ItemClusters(passages, leaves)])
    means = values.reshape(14, 4).mean(axis=1)
    errors = [stats.sem(means[:4]), stats.sem(means[4:])]
    assert error == pytest.approx(math.hypot(*errors) / 2)
    assert freedom == pytest.approx(_welch(errors, (3, 9)))


def test_passages_that_leaf_tasks_share_keep_their_items_together() -> None:
    """Two leaf tasks that ask the same about each passage know no more than one of them."""
    passages, leaves = np.tile(np.arange(12), 2), np.repeat([0, 1], 12)
    values = np.tile(RNG.normal(size=12), 2)
    error, freedom = own_error(side(values), [ItemClusters(passages, leaves)])
    assert error == pytest.approx(stats.sem(values[:12]), rel=0.05)
    assert freedom == 10


def test_a_leaf_task_of_one_item_leaves_the_error_unknown() -> None:
    error, _ = own_error(side(RNG.random(9)), [ItemClusters(leaves=np.array([0] * 8 + [1]))])
    assert math.isnan(error)


def test_an_item_of_a_small_leaf_task_moves_the_score_by_more() -> None:
    """Two items of a leaf of 2 against three of a leaf of 6: 1/4 each against 1/12 each."""
    differences = np.array([1.0, 1, -1, -1, -1, 0, 0, 0])
    leaves = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    sides = [ScoreMatrix(np.array([[score]]), np.array([0.1]), [values]) for score, values in
             ((0.25, differences), (0.0, np.zeros(8)))]  # fmt: skip
    weights = np.array([3, 3, 1, 1, 1])
    flips = [abs(np.dot(signs, weights)) for signs in itertools.product((1, -1), repeat=5)]
    found = difference(sides[0], sides[1], [ItemClusters(leaves=leaves)])
    assert found.p_value == pytest.approx(np.mean(np.array(flips) >= 3 + 3 - 3))


def test_without_item_noise_seeds_are_compared_by_welchs_test() -> None:
    one, other = np.array([0.71, 0.74, 0.78]), np.array([0.60, 0.66])
    sides = [side(np.repeat(scores[:, None], 300, axis=1)) for scores in (one, other)]
    found = difference(sides[0], sides[1], [ItemClusters()])
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    # The interval knows besides that the next item may differ.
    items = stats.sem(graded_won_and_lost(np.full(300, one.mean() - other.mean()))) ** 2
    seeds = [values.var(ddof=1) / len(values) for values in (one, other)]
    variance = items + sum(seeds)
    freedom = variance**2 / (items**2 / 301 + seeds[0] ** 2 / 2 + seeds[1] ** 2)
    centre, width = (one.mean() - other.mean()) * 300 / 302, stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((centre - width, centre + width))


def test_items_and_seeds_add_their_variances() -> None:
    one, other = (RNG.random((3, 200)) for _ in range(2))
    found = difference(side(one), side(other), [ItemClusters()])
    differences = one.mean(axis=0) - other.mean(axis=0)
    seeds = [values.mean(axis=1).var(ddof=1) / 3 for values in (one, other)]
    assert found.stderr == pytest.approx(math.sqrt(stats.sem(differences) ** 2 + sum(seeds)))
    items = stats.sem(graded_won_and_lost(differences)) ** 2
    variance = items + sum(seeds)
    freedom = variance**2 / (items**2 / 201 + sum(part**2 / 2 for part in seeds))
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(variance))


def test_more_seeds_do_not_make_more_items() -> None:
    """Three equal seeds know no more about the items than one of them."""
    one, other = (RNG.random(60) < share for share in (0.8, 0.5))
    single = difference(side(one), side(other), [ItemClusters()])
    tripled = difference(side(np.tile(one, (3, 1))), side(np.tile(other, (3, 1))), [ItemClusters()])
    assert tripled.high - tripled.low == pytest.approx(single.high - single.low)


def test_seeds_that_all_flip_the_same_few_items_prove_no_more_than_the_items() -> None:
    one, other = np.zeros((3, 60)), np.zeros((3, 60))
    one[:, :4] = 1
    found = difference(side(one), side(other), [ItemClusters()])
    assert 2 * stats.t.sf(found.value / found.stderr, 59) < 0.05
    assert found.p_value == pytest.approx(2 / 2**4)


def test_rounding_is_no_difference() -> None:
    """The mean of three times 0.1 is not 0.1."""
    found = difference(side(np.full((3, 50), 0.1)), side(np.full(50, 0.1)), [ItemClusters()])
    assert (found.value, found.p_value) == (0.0, 1.0)


def test_without_answers_scores_are_compared_by_their_errors() -> None:
    found = difference(silent(side(np.zeros(9), 0.03)), silent(side(np.full(9, 0.1), 0.04)), [ItemClusters()])
    assert (found.test, found.items) == ("unpaired z", 0)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.1 / 0.05))


@pytest.mark.parametrize("error", [math.nan, 0.0])
def test_without_an_error_nothing_is_tested(error: float) -> None:
    found = difference(silent(side([1.0] * 9, error)), silent(side([0.0] * 9, error)), [ItemClusters()])
    assert found.test == UNTESTED
    assert math.isnan(found.p_value)
    assert math.isnan(found.low)
    assert not found.is_sure(0.5)


def test_the_score_of_several_tasks_weighs_tasks_alike() -> None:
    small, large = RNG.random((2, 20)), RNG.random((2, 300))
    sides = [
        ScoreMatrix(np.array([[small[n].mean(), large[n].mean()]]), np.array([0.1, 0.1]), [small[n], large[n]])
        for n in (0, 1)
    ]
    found = difference(sides[0], sides[1], [ItemClusters(), ItemClusters()])
    assert found.value == pytest.approx(((small[0] - small[1]).mean() + (large[0] - large[1]).mean()) / 2)
    assert found.stderr == pytest.approx(math.hypot(*(stats.sem(task[0] - task[1]) for task in (small, large))) / 2)
    errors = [stats.sem(graded_won_and_lost(task[0] - task[1])) for task in (small, large)]
    width = math.hypot(*errors) / 2 * stats.t.ppf(0.975, _welch(errors, (21, 301)))
    assert (found.high - found.low) / 2 == pytest.approx(width)


def _welch(errors: list[float], freedoms: tuple[int, int]) -> float:
    variances = [error**2 for error in errors]
    return sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 40), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_turning_a_pair_around_turns_the_difference_around(
    seeds: int, others: int, items: int, binary: bool, passages: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    draw = (lambda size: rng.integers(0, 2, size)) if binary else rng.random
    one, other = side(draw((seeds, items))), side(draw((others, items)))
    layout = ItemClusters(passages=rng.integers(0, 4, items)) if passages else ItemClusters()
    there, back = difference(one, other, [layout]), difference(other, one, [layout])
    assert there.value == pytest.approx(-back.value)
    assert (math.isnan(there.p_value) and math.isnan(back.p_value)) or there.p_value == pytest.approx(back.p_value)
    assert math.isnan(there.p_value) or 0 <= there.p_value <= 1
    assert math.isnan(there.low) or there.low <= there.value <= there.high


@pytest.mark.parametrize("seeds", [1, 3])
def test_answers_that_never_differ_prove_little(seeds: int) -> None:
    """Eight right answers of eight do not prove that the ninth will be right."""
    right = side(np.full((seeds, 8), 0.7 if seeds > 1 else 1.0))
    found = difference(right, right, [ItemClusters()])
    assert (found.value, found.p_value) == (0.0, 1.0)
    expected = stats.ttest_1samp(won_and_lost(np.zeros(8)), 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert all(map(math.isnan, own_estimate(right, [ItemClusters()]).interval(0.95)))


def test_an_interval_of_no_freedom_is_unknown() -> None:
    assert all(map(math.isnan, Estimate(0.0, 0.1, 0).interval(0.95)))
