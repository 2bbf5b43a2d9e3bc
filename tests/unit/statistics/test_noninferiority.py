"""The paired difference and its interval: known values, and how often it errs where the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tunery.records import Score, TaskResult, TaskSettings
from tunery.statistics.noninferiority import compare


def result(task: str, values: list[float], leaves: list[str] | None = None, **options: object) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"{task}{n}" for n in range(len(values))], "acc": values})
    samples["task"] = leaves or task
    if "passage" in options:
        samples["passage"] = options["passage"]
    mean = samples.groupby("task")["acc"].mean().mean() if leaves else samples["acc"].mean()
    better = bool(options.get("higher", True))
    return TaskResult(
        TaskSettings(task, "1", 0, None, True), {"acc": Score(task, "acc", mean, None, len(values), better)}, samples
    )


def interval(before: list[float], after: list[float], **options: object) -> tuple[float, float]:
    found = compare({"t": result("t", before)}, {"t": result("t", after, **options)}, {"t": "acc"}, 0.95)  # type: ignore[arg-type]
    assert found is not None
    return found.low, found.high


def test_the_value_is_the_difference_of_the_means() -> None:
    found = compare({"t": result("t", [0, 0, 1, 1])}, {"t": result("t", [1, 0, 1, 1])}, {"t": "acc"}, 0.95)
    assert found is not None
    assert (found.candidate, found.rival, found.value, found.items) == (0.75, 0.5, 0.25, 4)


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
    found = compare(before, after, {"a": "acc", "b": "acc"}, 0.95)
    assert found is not None
    assert found.value == 0.5


def test_the_leaf_tasks_of_a_group_count_alike_if_its_score_says_so() -> None:
    leaves = ["x"] * 10 + ["y"] * 90
    found = compare(
        {"g": result("g", [0.0] * 100, leaves)}, {"g": result("g", [1.0] * 10 + [0.0] * 90, leaves)}, {"g": "acc"}, 0.95
    )
    assert found is not None
    assert found.value == 0.5


def test_less_is_better_turns_the_sign() -> None:
    found = compare({"t": result("t", [2.0, 3.0])}, {"t": result("t", [1.0, 1.0], higher=False)}, {"t": "acc"}, 0.95)
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
    found, alone = compare(before, after, metrics, 0.95), compare(before, after, {"c": "acc"}, 0.95)
    assert found is not None
    assert alone is not None
    assert (found.passages, alone.passages) == (2, None)


@pytest.mark.parametrize("missing", [{}, {"t": result("t", [1.0])}])
def test_a_task_without_a_common_item_is_not_compared(missing: dict[str, TaskResult]) -> None:
    other = result("u", [1.0])
    assert compare(missing, {"t": other}, {"t": "acc"}, 0.95) is None


def test_a_score_that_is_no_mean_over_items_is_not_compared() -> None:
    odd = result("t", [1.0, 0.0])
    odd = TaskResult(odd.settings, {"acc": Score("t", "acc", 7.0, None, 2)}, odd.samples)
    assert compare({"t": odd}, {"t": odd}, {"t": "acc"}, 0.95) is None


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
