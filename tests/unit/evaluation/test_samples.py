"""What is kept of every item."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tunery.evaluation.samples import items_digest

IDS = [f"item{number}" for number in range(6)]


@given(st.permutations(IDS))
def test_the_digest_of_items_does_not_depend_on_their_order(items: list[str]) -> None:
    assert items_digest(items) == items_digest(IDS)
    assert items_digest(items[:-1]) != items_digest(IDS)


def test_the_digest_of_items_fits_mlflow_and_does_not_collide_by_chance() -> None:
    assert len(items_digest(IDS)) <= 36
    assert math.log2(16) * len(items_digest(IDS)) >= 128
