"""Corrections, ranges of ranks and groups that are too close, against brute force and published values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunery.records.scores import Difference
from tunery.statistics.ranks import (
    FEWEST_TASKS,
    average_ranks,
    close_groups,
    corrected,
    critical_difference,
    rank_range,
    ranks_over_tasks,
)


def differences(*p: float) -> list[Difference]:
    return [Difference(0.1, 0.0, 0.2, one, "test") for one in p]


def adjusted(found: list[Difference]) -> list[float]:
    return [one.adjusted for one in found]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_holms_rule(p: list[float]) -> None:
    """The i-th smallest of m is multiplied by m - i, and none falls below a smaller one's."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    expected, highest = [0.0] * len(p), 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, p[place] * (len(p) - step)))
        expected[place] = highest
    assert adjusted(corrected(differences(*p))) == pytest.approx(expected)


def test_what_was_not_tested_is_no_comparison() -> None:
    found = corrected(differences(0.01, math.nan, 0.04))
    assert adjusted(found)[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(found[1].adjusted)
    assert not found[1].is_sure(0.5)


def test_of_many_the_best_are_corrected_for_all() -> None:
    assert adjusted(corrected(differences(0.001, 0.02), family=100)) == pytest.approx([0.1, 1.0])


def test_ranks_that_the_tests_leave_open() -> None:
    better = {"a": {"c", "d"}, "b": {"d"}}
    ranges = {name: rank_range(name, better, 4) for name in "abcd"}
    assert ranges == {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}


@given(st.integers(0, 7), st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_groups_are_the_longest_stretches_without_a_sure_winner(count: int, wins: set[tuple[int, int]]) -> None:
    order = [f"n{place}" for place in range(count)]
    won = {(a, b) for a, b in wins if a < b < count}
    better = {f"n{a}": {f"n{b}" for one, b in won if one == a} for a, _ in won}
    open_ones = [
        (start, end)
        for start, end in itertools.combinations(range(count), 2)
        if not any(start <= a and b <= end for a, b in won)
    ]
    longest = [one for one in open_ones if not any(o != one and o[0] <= one[0] and o[1] >= one[1] for o in open_ones)]
    assert close_groups(order, better) == tuple(tuple(order[start : end + 1]) for start, end in longest)


def test_ties_share_a_rank() -> None:
    values = pd.DataFrame({"a": [0.9, 0.5], "b": [0.9, 0.7], "c": [0.1, 0.6]})
    assert average_ranks(values) == {"a": 2.25, "b": 1.25, "c": 2.5}


def test_the_critical_difference_is_demsars() -> None:
    """Section 3.2.2 of the paper: four classifiers on 14 data sets, q = 2.569, CD = 1.25."""
    assert critical_difference(4, 14, 0.95) == pytest.approx(1.25, abs=0.005)


def test_friedman_is_scipys_and_the_names_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.random((8, 3)), columns=["zebra", "ant", "mole"])
    values["ant"] += 2
    task_ranks = ranks_over_tasks(values, 0.95)
    assert task_ranks is not None
    assert task_ranks.friedman_p == pytest.approx(stats.friedmanchisquare(*values.to_numpy().T).pvalue)
    assert min(task_ranks.average_ranks, key=lambda name: task_ranks.average_ranks[name]) == "ant"
    for one, other in itertools.permutations(values, 2):
        apart = abs(task_ranks.average_ranks[one] - task_ranks.average_ranks[other])
        assert (task_ranks.nemenyi_p[one, other] < 0.05) == (apart > task_ranks.critical_difference)


def test_few_tasks_or_equal_scores_say_nothing_over_tasks() -> None:
    values = pd.DataFrame(np.random.default_rng(0).random((FEWEST_TASKS, 3)))
    assert ranks_over_tasks(values, 0.95) is not None
    assert ranks_over_tasks(values.iloc[1:], 0.95) is None
    assert ranks_over_tasks(values.iloc[:, :2], 0.95) is None
    assert ranks_over_tasks(values * 0, 0.95) is None
