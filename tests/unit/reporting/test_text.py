"""Numbers for people."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.reporting.text import interval


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-0.0312, 0.1, "-0.031 to +0.100"),
        (-0.0003, 0.0003, "-0.0003 to +0.0003"),  # no answer of 10,000 changed
        (0.0101, 0.0102, "+0.0101 to +0.0102"),
        (0.0, 0.0, "–"),
        (math.nan, 0.1, "–"),
    ],
)
def test_an_interval_is_shown_with_its_width_or_not_at_all(low: float, high: float, shown: str) -> None:
    assert interval(low, high, 3, sign=True) == shown


@given(st.floats(-1, 1), st.floats(1e-12, 1))
def test_both_ends_of_an_interval_never_read_the_same(low: float, width: float) -> None:
    text = interval(low, low + width, 3)
    first, _, second = text.partition(" to ")
    assert text == "–" or float(first) < float(second)
