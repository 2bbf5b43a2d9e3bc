"""A challenger is called worse seldom if it is not, soon if it is, and never without a reason."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.statistics.racing import Race

ALPHA = 0.05


def shuffled(seed: int, items: int, *, lost: int, won: int) -> list[float]:
    differences = [-1.0] * lost + [1.0] * won + [0.0] * (items - lost - won)
    random.Random(seed).shuffle(differences)
    return differences


def ended_at(differences: list[float], alpha: float = ALPHA, bound: float = 1.0) -> int | None:
    race = Race(len(differences), alpha, bound)
    return next((number for number, one in enumerate(differences, start=1) if race.take([one])), None)


@pytest.mark.parametrize(("items", "changed"), [(200, 20), (400, 60), (400, 8)])
def test_an_equal_challenger_is_called_worse_at_most_as_often_as_allowed(items: int, changed: int) -> None:
    ended = sum(ended_at(shuffled(seed, items, lost=changed, won=changed)) is not None for seed in range(300))
    # 15 of 300 is what alpha allows; 29 would be 3.7 standard errors above.
    assert ended < 29


@pytest.mark.parametrize("differences", [[-1.0, -1.0, 1.0, 1.0, 0.0, 0.0], [-0.5, -0.5, 1.0, 0.0, 0.0]])
def test_over_every_order_of_few_items_it_is_called_worse_at_most_as_often_as_allowed(differences: list[float]) -> None:
    """Exactly, as all orders are tried."""
    orders = list(permutations(differences))
    assert sum(ended_at(list(order), alpha=0.3) is not None for order in orders) <= 0.3 * len(orders)


def test_a_clearly_worse_challenger_is_called_so_after_a_fraction_of_the_items() -> None:
    ends = [ended_at(shuffled(seed, 400, lost=80, won=20)) for seed in range(100)]
    assert None not in ends
    assert sum(end or 0 for end in ends) / 100 < 400 / 3


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_one_that_loses_no_item_is_never_called_worse(differences: list[float]) -> None:
    assert ended_at([abs(one) for one in differences]) is None


def test_what_cannot_be_made_up_for_is_lost() -> None:
    """Of ten items seven are lost: three cannot bring them back."""
    race = Race(10, alpha=1e-9)
    assert not race.take([-1.0] * 5)
    assert race.take([-1.0] * 2)


def test_a_verdict_stands() -> None:
    race = Race(100, ALPHA)
    assert race.take([-1.0] * 40)
    assert race.take([1.0] * 60)
    assert race.taken == 100


def test_graded_answers_and_unequal_weights_are_taken_within_their_bound() -> None:
    graded = [one / 4 for one in shuffled(0, 400, lost=200, won=20)]
    assert ended_at(graded) is not None
    assert ended_at([4 * one for one in graded], bound=4.0) == ended_at(graded)


@pytest.mark.parametrize("difference", [1.5, -1.5, float("nan")])
def test_a_difference_beyond_the_bound_is_refused(difference: float) -> None:
    with pytest.raises(ValueError, match=r"at most 1\.0"):
        Race(10, ALPHA).take([difference])


def test_more_differences_than_items_are_refused() -> None:
    with pytest.raises(ValueError, match="the 2 items"):
        Race(2, ALPHA).take([0.0] * 3)
