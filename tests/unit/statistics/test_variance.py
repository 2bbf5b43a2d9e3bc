"""Intervals of an estimate."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from tunery.statistics.variance import Estimate


@pytest.mark.parametrize("freedom", [1.0, 2.5, 7.3, 40.0, 1e9, math.inf])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_is_that_of_student_s_t(freedom: float, confidence: float) -> None:
    low, high = stats.t.interval(confidence, freedom, loc=0.3, scale=0.02)
    assert Estimate(0.3, 0.02, freedom).interval(confidence) == pytest.approx((low, high), rel=1e-12)
