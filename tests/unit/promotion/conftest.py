"""A candidate that passes every gate; tests spoil one thing at a time."""

from __future__ import annotations

import pytest

from tunery.promotion.gates import BaselineDifference, Evidence, FormScore
from tunery.records.scores import SCORE, Difference

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def difference(value: float, low: float | None = None, high: float | None = None, items: int = 200) -> Difference:
    reach = 0.02
    ends = value - reach if low is None else low, value + reach if high is None else high
    return Difference(value, *ends, items=items, score=0.5 + value, baseline=0.5)


@pytest.fixture
def good() -> Evidence:
    return Evidence(
        candidate="small/2",
        champion="small/1",
        base="acme/base",
        revision=COMMIT,
        license="apache-2.0",
        differences=(
            BaselineDifference(SCORE, "champion", difference(0.1)),
            BaselineDifference(SCORE, "base", difference(0.3)),
            BaselineDifference("truthfulqa", "champion", difference(0.03), "mc2"),
            BaselineDifference("truthfulqa", "base", difference(0.05), "mc2"),
        ),
        forms={
            "trained": FormScore(0.6, 0.0, 200),
            "adapter": FormScore(0.595, -0.005, 200, 1, 0.02),
            "merged": FormScore(0.57, -0.03, 200, 6, 0.4),
        },
        recorded=0.0,
    )
