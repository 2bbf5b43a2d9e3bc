"""Paired tests against values worked out by other means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunery.records import Score, TaskResult, TaskSettings
from tunery.statistics.paired import compare_items, compare_tasks


def samples(values: list[float], ids: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ids or [f"i{n}" for n in range(len(values))], "acc": values, "split": "dev"})


def test_mcnemar_is_the_binomial_test_of_the_items_that_changed() -> None:
    base = [0.0] * 12 + [1.0] * 2 + [1.0] * 6
    tuned = [1.0] * 12 + [0.0] * 2 + [1.0] * 6
    pair = compare_items(samples(base), samples(tuned), "t", "acc")
    assert pair is not None
    assert pair.test == "exact McNemar"
    assert pair.p_value == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert (pair.items, pair.delta) == (20, pytest.approx(0.5))


def test_scores_that_are_not_0_or_1_get_a_permutation_test() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    near = compare_items(samples(list(base)), samples(list(base + rng.normal(0, 1, 60))), "t", "acc")
    far = compare_items(samples(list(base)), samples(list(base + 1 + rng.normal(0, 0.5, 60))), "t", "acc")
    assert near is not None
    assert far is not None
    assert far.test == "paired permutation"
    assert far.p_value < 0.001 < near.p_value


def test_equal_answers_are_no_difference() -> None:
    for values in ([0.0, 1.0, 1.0], [0.2, 0.5, 0.9]):
        pair = compare_items(samples(values), samples(values), "t", "acc")
        assert pair is not None
        assert (pair.delta, pair.p_value) == (0.0, 1.0)


def test_items_are_paired_by_id_not_by_place() -> None:
    pair = compare_items(samples([1, 0, 0], ["a", "b", "c"]), samples([0, 1, 0], ["b", "a", "c"]), "t", "acc")
    assert pair is not None
    assert (pair.items, pair.p_value) == (3, 1.0)


def test_only_items_that_both_answered_count() -> None:
    pair = compare_items(samples([1, 0], ["a", "b"]), samples([1, 1], ["b", "c"]), "t", "acc")
    assert pair is not None
    assert pair.items == 1


def test_an_item_held_twice_is_paired_once_each() -> None:
    pair = compare_items(samples([0, 1], ["a", "a"]), samples([1, 1], ["a", "a"]), "t", "acc")
    assert pair is not None
    assert pair.items == 2


def test_nothing_in_common_is_no_comparison() -> None:
    assert compare_items(samples([1], ["a"]), samples([1], ["b"]), "t", "acc") is None
    assert compare_items(samples([1]), samples([1]), "t", "f1") is None


def test_a_group_whose_tasks_count_alike_is_compared_as_it_is_scored() -> None:
    base, tuned = group([1] * 10 + [0] * 30), group([1] * 10 + [1] * 15 + [0] * 15)
    (pair,) = compare_tasks({"g": base}, {"g": tuned}, {"g": "acc"})
    assert (pair.base, pair.tuned, pair.delta) == (0.5, 0.75, 0.25)
    assert pair.test.endswith("tasks alike")
    # Stratum a does not move; b moves by 0.5 with the error of 30 paired differences, and weighs a half.
    error = np.std([1] * 15 + [0] * 15, ddof=1) / np.sqrt(30) / 2
    assert (pair.low, pair.high) == pytest.approx((0.25 - 1.959964 * error, 0.25 + 1.959964 * error))


def group(values: list[float]) -> TaskResult:
    """Ten items of task a, thirty of task b, scored by the mean of the two tasks' means."""
    frame = samples(values).assign(task=["a"] * 10 + ["b"] * 30)
    mean = (sum(values[:10]) / 10 + sum(values[10:]) / 30) / 2
    return TaskResult(TaskSettings("g", "1", 0, None, True), {"acc": Score("g", "acc", mean, None, 40)}, frame)


def test_a_metric_that_is_no_mean_over_items_gets_no_test() -> None:
    results = []
    for value in (12.0, 9.0):
        scores = {"acc": Score("t", "acc", value, None, 3, higher_is_better=False)}
        results.append(TaskResult(TaskSettings("t", "1", 0, None, True), scores, samples([1.0, 2.0, 3.0])))
    (pair,) = compare_tasks({"t": results[0]}, {"t": results[1]}, {"t": "acc"})
    assert (pair.delta, pair.gain) == (-3.0, 3.0)
    assert np.isnan(pair.p_value)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_swapping_the_sides_mirrors_the_result(answers: list[tuple[bool, bool]]) -> None:
    base, tuned = (samples([float(pair[side]) for pair in answers]) for side in (0, 1))
    one, other = compare_items(base, tuned, "t", "acc"), compare_items(tuned, base, "t", "acc")
    assert one is not None
    assert other is not None
    assert (one.delta, one.p_value) == (pytest.approx(-other.delta), pytest.approx(other.p_value))
    assert one.low == pytest.approx(-other.high)
