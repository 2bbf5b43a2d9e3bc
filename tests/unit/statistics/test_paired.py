"""Paired tests against values worked out by other means, and how often the interval errs where the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.statistics.paired import TaskDifference, compare_scores, compare_tasks


def samples(values: list[float], ids: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ids or [f"i{n}" for n in range(len(values))], "acc": values, "split": "dev"})


def compared(base: pd.DataFrame, tuned: pd.DataFrame, metric: str = "acc") -> TaskDifference | None:
    """Both sides as results of one task whose score is the mean over its items."""
    sides = []
    for frame in (base, tuned):
        scores = {"acc": Score("t", "acc", float(frame["acc"].mean()), None, len(frame))}
        sides.append(TaskResult(TaskSettings("t", "1", 0, None, True), scores, frame))
    return next(iter(compare_tasks({"t": sides[0]}, {"t": sides[1]}, {"t": metric})), None)


def test_mcnemar_is_the_binomial_test_of_the_items_that_changed() -> None:
    base = [0.0] * 12 + [1.0] * 2 + [1.0] * 6
    tuned = [1.0] * 12 + [0.0] * 2 + [1.0] * 6
    pair = compared(samples(base), samples(tuned))
    assert pair is not None
    assert pair.difference.test == "exact McNemar"
    assert pair.difference.p_value == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert (pair.items, pair.delta) == (20, pytest.approx(0.5))


def test_scores_that_are_not_0_or_1_get_a_permutation_test() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    near = compared(samples(list(base)), samples(list(base + rng.normal(0, 1, 60))))
    far = compared(samples(list(base)), samples(list(base + 1 + rng.normal(0, 0.5, 60))))
    assert near is not None
    assert far is not None
    assert far.difference.test == "paired permutation"
    assert far.difference.p_value < 0.001 < near.difference.p_value


def test_equal_answers_are_no_difference() -> None:
    for values in ([0.0, 1.0, 1.0], [0.2, 0.5, 0.9]):
        pair = compared(samples(values), samples(values))
        assert pair is not None
        assert (pair.delta, pair.difference.p_value) == (0.0, 1.0)


def test_items_are_paired_by_id_not_by_place() -> None:
    pair = compared(samples([1, 0, 0], ["a", "b", "c"]), samples([0, 1, 0], ["b", "a", "c"]))
    assert pair is not None
    assert (pair.items, pair.difference.p_value) == (3, 1.0)


def test_only_items_that_both_answered_count() -> None:
    pair = compared(samples([1, 0], ["a", "b"]), samples([1, 1], ["b", "c"]))
    assert pair is not None
    assert pair.items == 1


def test_an_item_held_twice_is_paired_once_each() -> None:
    pair = compared(samples([0, 1], ["a", "a"]), samples([1, 1], ["a", "a"]))
    assert pair is not None
    assert pair.items == 2


def test_nothing_in_common_is_no_comparison() -> None:
    assert compared(samples([1], ["a"]), samples([1], ["b"])) is None
    assert compared(samples([1]), samples([1]), "f1") is None


def test_a_group_whose_tasks_count_alike_is_compared_as_it_is_scored() -> None:
    base, tuned = group([1] * 10 + [0] * 30), group([1] * 10 + [1] * 15 + [0] * 15)
    (pair,) = compare_tasks({"g": base}, {"g": tuned}, {"g": "acc"})
    assert (pair.base, pair.tuned, pair.delta) == (0.5, 0.75, 0.25)
    assert pair.difference.test == "paired permutation"
    # Stratum a does not move; b moves by 0.5. Each weighs a half, and has an item won and an item lost added.
    differences = [[0] * 10 + [1, -1], [1] * 15 + [0] * 15 + [1, -1]]
    errors = [stats.sem(values) / 2 for values in differences]
    freedom = sum(e**2 for e in errors) ** 2 / (errors[0] ** 4 / 11 + errors[1] ** 4 / 31)
    centre, width = 15 / 32 / 2, stats.t.ppf(0.975, freedom) * np.hypot(*errors)
    assert (pair.low, pair.high) == pytest.approx((centre - width, centre + width))


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
    assert (pair.delta, pair.difference.value) == (-3.0, 3.0)
    assert np.isnan(pair.difference.p_value)
    assert pair.items == 3


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_swapping_the_sides_mirrors_the_result(answers: list[tuple[bool, bool]]) -> None:
    base, tuned = (samples([float(pair[side]) for pair in answers]) for side in (0, 1))
    one, other = compared(base, tuned), compared(tuned, base)
    assert one is not None
    assert other is not None
    assert (one.delta, one.difference.p_value) == (pytest.approx(-other.delta), pytest.approx(other.difference.p_value))
    assert one.low == pytest.approx(-other.high)


# ---- the interval, as the gates of a promotion use it


def result(task: str, values: list[float], leaves: list[str] | None = None, **options: Any) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"{task}{n}" for n in range(len(values))], "acc": values})
    samples["task"] = leaves or task
    if "passage" in options:
        samples["passage"] = options["passage"]
    mean = samples.groupby("task")["acc"].mean().mean() if leaves else samples["acc"].mean()
    better = bool(options.get("higher", True))
    return TaskResult(
        TaskSettings(task, "1", 0, None, True), {"acc": Score(task, "acc", mean, None, len(values), better)}, samples
    )


def interval(before: list[float], after: list[float], **options: Any) -> tuple[float, float]:
    found = compare_scores([{"t": result("t", before)}], [{"t": result("t", after, **options)}], {"t": "acc"}, 0.95)
    assert found is not None
    return found.low, found.high


def test_the_value_is_the_difference_of_the_means() -> None:
    found = compare_scores([{"t": result("t", [0, 0, 1, 1])}], [{"t": result("t", [1, 0, 1, 1])}], {"t": "acc"}, 0.95)
    assert found is not None
    assert (found.score, found.baseline, found.value, found.items) == (0.75, 0.5, 0.25, 4)


def test_the_interval_is_bonett_and_prices() -> None:
    # n = 98 with 14 won and 6 lost: (15 - 7) / 100, variance (22 / 100 - 0.08^2) / 100, and t(99) instead of z.
    before, after = [0.0] * 14 + [1.0] * 6 + [1.0] * 78, [1.0] * 14 + [0.0] * 6 + [1.0] * 78
    low, high = interval(before, after)
    reach = 1.98422 * np.sqrt((0.22 - 0.08**2) / 99)
    assert (low, high) == pytest.approx((0.08 - reach, 0.08 + reach), abs=1e-5)


def test_equal_answers_prove_less_the_fewer_they_are() -> None:
    lows = [interval([1.0] * items, [1.0] * items)[0] for items in (8, 80, 800)]
    assert lows == pytest.approx([-0.337, -0.034, -0.0035], abs=0.002)


def test_tasks_count_alike_whatever_their_sizes() -> None:
    before = {"a": result("a", [0.0] * 10), "b": result("b", [0.0] * 1000)}
    after = {"a": result("a", [1.0] * 10), "b": result("b", [0.0] * 1000)}
    found = compare_scores([before], [after], {"a": "acc", "b": "acc"}, 0.95)
    assert found is not None
    assert found.value == 0.5


def test_the_leaf_tasks_of_a_group_count_alike_if_its_score_says_so() -> None:
    leaves = ["x"] * 10 + ["y"] * 90
    found = compare_scores(
        [{"g": result("g", [0.0] * 100, leaves)}],
        [{"g": result("g", [1.0] * 10 + [0.0] * 90, leaves)}],
        {"g": "acc"},
        0.95,
    )
    assert found is not None
    assert found.value == 0.5


def test_less_is_better_turns_the_sign() -> None:
    found = compare_scores(
        [{"t": result("t", [2.0, 3.0])}], [{"t": result("t", [1.0, 1.0], higher=False)}], {"t": "acc"}, 0.95
    )
    assert found is not None
    assert found.value == 1.5


def test_items_that_share_a_passage_tell_less() -> None:
    rng = np.random.default_rng(0)
    won = np.repeat(rng.random(40) < 0.3, 10).astype(float)  # a passage is understood, or not, as a whole
    passages = [f"p{n // 10}" for n in range(400)]
    alone = interval([0.0] * 400, list(won))
    shared = interval([0.0] * 400, list(won), passage=passages)
    assert shared[1] - shared[0] > 2 * (alone[1] - alone[0])


def test_the_fewest_passages_of_a_task_are_told() -> None:
    before = {"a": result("a", [0.0] * 4), "b": result("b", [0.0] * 9), "c": result("c", [0.0])}
    after = {
        "a": result("a", [1.0] * 4, passage=["p", "p", "q", "q"]),
        "b": result("b", [1.0] * 9, passage=["r", "s", "t"] * 3),
        "c": result("c", [1.0]),
    }
    metrics = dict.fromkeys(before, "acc")
    found, alone = (
        compare_scores([before], [after], metrics, 0.95),
        compare_scores([before], [after], {"c": "acc"}, 0.95),
    )
    assert found is not None
    assert alone is not None
    assert (found.passages, alone.passages) == (2, None)


@pytest.mark.parametrize("missing", [{}, {"t": result("t", [1.0])}])
def test_a_task_without_a_common_item_is_not_compared(missing: dict[str, TaskResult]) -> None:
    other = result("u", [1.0])
    assert compare_scores([missing], [{"t": other}], {"t": "acc"}, 0.95) is None


def test_a_score_that_is_no_mean_over_items_is_not_compared() -> None:
    odd = result("t", [1.0, 0.0])
    odd = TaskResult(odd.settings, {"acc": Score("t", "acc", 7.0, None, 2)}, odd.samples)
    assert compare_scores([{"t": odd}], [{"t": odd}], {"t": "acc"}, 0.95) is None


@pytest.mark.parametrize(("items", "lost"), [(50, 0.02), (200, 0.01), (200, 0.05)])
def test_a_fall_as_large_as_the_bound_passes_a_guard_in_at_most_a_fortieth_of_all_cases(
    items: int, lost: float
) -> None:
    """The truth is at the bound: each pass is an error, and 2.5 % of them are what a 95 % interval allows."""
    rng = np.random.default_rng(items)
    passes, draws = 0, 400
    for _ in range(draws):
        drawn = rng.choice([-1.0, 0.0, 1.0], size=items, p=[0.1 + lost, 0.8 - lost, 0.1])
        passes += interval(list((drawn < 0).astype(float)), list((drawn > 0).astype(float)))[0] > -lost
    assert passes / draws <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / draws)
