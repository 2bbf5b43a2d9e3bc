"""Validation rows depend on the texts alone; weights say how often a row is seen."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.data.split import held_out, mix
from tunery.records.rows import Conversation, Message


def rows(texts: list[str]) -> list[Conversation]:
    return [Conversation((Message("user", text), Message("assistant", "a")), f"r:{n}") for n, text in enumerate(texts)]


def texts_of(conversations: list[Conversation], places: list[int]) -> set[str]:
    return {conversations[place].messages[0].content for place in places}


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 10), (0.25, 25), (0.004, 1), (0.0, 0), (0.999, 99)])
def test_the_share_is_met_exactly_and_is_at_least_one_row(fraction: float, count: int) -> None:
    assert len(held_out(rows([f"text {n}" for n in range(100)]), fraction)) == count


def test_the_choice_does_not_depend_on_the_order() -> None:
    ordered = rows([f"text {n}" for n in range(50)])
    turned = list(reversed(ordered))
    assert texts_of(ordered, held_out(ordered, 0.2)) == texts_of(turned, held_out(turned, 0.2))


def test_the_rows_with_the_smallest_hashes_are_held_out() -> None:
    # A change here moves rows between training and validation of every project that people already have.
    hashes = [hashlib.sha256(f"user: text {n}\nassistant: a".encode()).hexdigest() for n in range(20)]
    smallest = sorted(hashes.index(each) for each in sorted(hashes)[:4])
    assert held_out(rows([f"Text  {n}" for n in range(20)]), 0.2) == smallest


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.floats(0.01, 0.99))
def test_equal_rows_are_on_the_same_side_and_some_row_is_left_to_train_on(texts: list[str], fraction: float) -> None:
    all_rows = rows(texts)
    places = held_out(all_rows, fraction)
    rest = [place for place in range(len(texts)) if place not in places]
    assert not texts_of(all_rows, places) & texts_of(all_rows, rest)
    assert bool(places) == (len(set(texts)) >= 2)
    assert rest or not texts


def test_a_weight_says_how_often_each_row_is_seen() -> None:
    sources = [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    seen = Counter(mix(sources, [1.0, 2.0, 0.5, 1.5], seed=0))
    assert [seen[place] for place in range(20)] == [1] * 10 + [2] * 10
    assert sorted(seen[place] for place in range(20, 30)) == [0] * 5 + [1] * 5
    assert sorted(seen[place] for place in range(30, 40)) == [1] * 5 + [2] * 5


def test_the_draw_follows_the_seed_and_not_the_other_sources() -> None:
    assert mix([0] * 100, [0.5], seed=1) == mix([0] * 100, [0.5], seed=1) != mix([0] * 100, [0.5], seed=2)
    alone = mix([1] * 50, [1.0, 0.5], seed=1)
    beside = mix([0] * 50 + [1] * 50, [1.0, 0.5], seed=1)
    assert [place - 50 for place in beside[50:]] == alone


def test_two_sources_of_one_size_draw_different_rows() -> None:
    both = mix([0] * 100 + [1] * 100, [0.5, 0.5], seed=1)
    assert both[:50] != [place - 100 for place in both[50:]]


def test_a_small_weight_still_shows_one_row() -> None:
    assert len(mix([0, 0, 0], [0.01], seed=0)) == 1
