"""A trial is raced item by item, each item with its share of the score, against answers to the same items."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd
import pytest
from tests.unit.runs.conftest import task_result

from tunery.records.scores import Score, TaskResult
from tunery.runs.racing import PairedRace, paired_race

ALPHA = 0.05


def answered(task: str, values: list[float], leaves: list[str] | None = None, lower: bool = False) -> TaskResult:
    """A result whose score is the mean over items, or over leaf tasks if they are named."""
    result = task_result(task, [1] * len(values), None)
    samples = result.samples.assign(acc=values, task=leaves or task)
    mean = samples.groupby("task")["acc"].mean().mean() if leaves else sum(values) / len(values)
    score = Score(task, "acc", mean, None, len(values), higher_is_better=not lower)
    return dataclasses.replace(result, scores={"acc": score}, samples=samples, primary="acc")


def raced(race: PairedRace | None) -> PairedRace:
    assert race is not None
    return race


def test_every_task_counts_alike_however_many_items_it_has() -> None:
    race = raced(paired_race({"few": answered("few", [1.0] * 10), "many": answered("many", [1.0] * 30)}, ALPHA))
    assert race.race.items == 40
    assert set(race.weights["few"].values()) == {2.0}
    assert list(race.weights["many"].values()) == [pytest.approx(2 / 3)] * 30
    assert race.race.bound == 2.0


def test_leaf_tasks_count_alike_where_the_score_is_their_mean() -> None:
    leaves = ["one"] * 2 + ["other"] * 6
    race = raced(paired_race({"group": answered("group", [1.0, 1.0] + [0.0] * 6, leaves)}, ALPHA))
    assert list(race.weights["group"].values()) == [2.0] * 2 + [pytest.approx(2 / 3)] * 6


def test_a_model_that_loses_nearly_every_item_is_out_and_an_equal_one_is_not() -> None:
    rival, half = {"task": answered("task", [1.0] * 100)}, [1.0, 0.0] * 50
    assert raced(paired_race(rival, ALPHA)).lost({"task": answered("task", [0.0] * 90 + [1.0] * 10)})
    equal = raced(paired_race({"task": answered("task", half)}, ALPHA))
    assert not equal.lost({"task": answered("task", half)})
    assert equal.race.taken == 100


def test_blocks_are_taken_one_after_another() -> None:
    race = raced(paired_race({"task": answered("task", [1.0] * 100)}, ALPHA))
    lost = answered("task", [0.0] * 100)
    assert not race.lost({"task": dataclasses.replace(lost, samples=lost.samples[:2])})
    assert race.lost({"task": dataclasses.replace(lost, samples=lost.samples[2:40])})
    assert race.race.taken == 40


def test_of_a_metric_of_which_less_is_better_more_is_a_loss() -> None:
    race = raced(paired_race({"task": answered("task", [0.0] * 50, lower=True)}, ALPHA))
    assert race.lost({"task": answered("task", [1.0] * 50)})


def test_a_value_that_is_no_share_ends_the_race_and_not_the_scoring() -> None:
    for value in (math.nan, 37.0, -1.0):
        race = raced(paired_race({"task": answered("task", [1.0] * 50)}, ALPHA))
        assert not race.lost({"task": answered("task", [value] + [0.0] * 49)})
        assert not race.lost({"task": answered("task", [0.0] * 50)})


def test_an_answer_without_the_metric_ends_the_race() -> None:
    race = raced(paired_race({"task": answered("task", [1.0] * 50)}, ALPHA))
    bare = answered("task", [0.0] * 50)
    assert not race.lost({"task": dataclasses.replace(bare, samples=bare.samples.drop(columns="acc"))})


@pytest.mark.parametrize("values", [[37.0, 12.0], [1.0, math.nan]])
def test_against_values_that_are_no_shares_there_is_no_race(values: list[float]) -> None:
    assert paired_race({"task": answered("task", values)}, ALPHA) is None


def test_where_the_score_is_no_mean_or_an_item_counts_twice_there_is_no_race() -> None:
    one = answered("task", [1.0, 0.0])
    odd = dataclasses.replace(one, scores={"acc": dataclasses.replace(one.scores["acc"], value=0.9)})
    assert paired_race({"task": odd}, ALPHA) is None
    assert paired_race({"task": one, "again": one}, ALPHA) is None
    empty = dataclasses.replace(one, samples=pd.DataFrame({"item_id": [], "task": [], "acc": []}))
    assert paired_race({"task": empty}, ALPHA) is None
