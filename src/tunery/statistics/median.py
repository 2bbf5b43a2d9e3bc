"""A median with its interval: what repeated timings are summed up by, as one slow repetition moves a mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from tunery.statistics.significance import CONFIDENCE


@dataclass(frozen=True)
class Median:
    """The median of repetitions, and the order statistics that bound the true one."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Median:
    """Median and its interval without an assumption about the distribution.

    Args:
        values: At least six for 95 %: of fewer, not even the extremes bound the median that surely.

    Source: the sign test turned around, as scipy.stats.quantile_test gives it; Conover, Practical Nonparametric
        Statistics, 3rd edition, section 3.2.
    """
    bounds = stats.quantile_test(values, p=0.5).confidence_interval(confidence)
    return Median(statistics.median(values), float(bounds.low), float(bounds.high))
