"""The median of repetitions and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from tunery.statistics.median import median_of


def test_the_interval_of_ten_repetitions_is_from_the_second_to_the_ninth() -> None:
    found = median_of([1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 100.0])
    # P(at most 1 of 10 below the median) = 11 / 1024 on each side: 97.9 %.
    assert (found.value, found.low, found.high) == (5.5, 2.0, 9.0)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).exponential(size=(400, 10))
    held = [found.low <= np.log(2) <= found.high for found in map(median_of, drawn)]
    assert np.mean(held) == pytest.approx(0.979, abs=0.02)
