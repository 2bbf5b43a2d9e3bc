"""Checkpoints that were both measured and scored: does a lower loss mean a better score?"""

from __future__ import annotations

from collections.abc import Sequence

from tunery.records.runs import StepMetrics
from tunery.records.scores import RankCorrelation
from tunery.statistics.rank_correlation import loss_and_score

_LOSS, _SCORE = "validation/nll", "validation/score"


def scored_checkpoints(history: Sequence[StepMetrics]) -> list[tuple[float, float, int]]:
    """Validation loss, score on dev items and optimizer step of each, in order of training."""
    found = (step for step in history if {_LOSS, _SCORE} <= set(step.values))
    return [(step.values[_LOSS], step.values[_SCORE], step.step) for step in found]


def checkpoint_correlation(history: Sequence[StepMetrics]) -> RankCorrelation | None:
    """Over the checkpoints of one run, whose losses are over the same tokens; None below two of them."""
    points = scored_checkpoints(history)
    return loss_and_score([loss for loss, _, _ in points], [score for _, score, _ in points]) if points[1:] else None
