"""What the pictures of a board share: how far an interval reaches, the names of the score and of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunery.comparison.records import Board, LeaderboardRow, ScoreCell
from tunery.reporting.figures import literal

_EDGE = 0.03  # beyond 0 and 1, so that a point there is whole


def reach(cell: ScoreCell) -> list[list[float]] | None:
    """How far a score's interval goes to each side, as matplotlib wants it; None where no error is known."""
    if math.isnan(cell.low):
        return None
    return [[cell.value - cell.low], [cell.high - cell.value]]


def near_shares(limits: tuple[float, float], values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis, near 0 and 1 if all its scores lie there: two seeds' intervals reach far beyond."""
    low, high = limits
    return (max(low, -_EDGE), min(high, 1 + _EDGE)) if min(values) >= 0 and max(values) <= 1 else limits


def score_name(board: Board) -> str:
    """The label of an axis of scores."""
    if len(board.tasks) == 1:
        return literal(f"{board.tasks[0]}, {board.contenders[0].cells[board.tasks[0]].metric}")
    return f"score, mean of {len(board.tasks)} tasks"


def method_name(board: Board, one: LeaderboardRow) -> str:
    """A contender's method, and what else a board's contenders differ in: data, bases."""
    data = len({other.first.trained_on for other in board.contenders} - {""}) > 1
    bases = len({other.first.base for other in board.contenders} - {""}) > 1
    on = f" on {one.first.trained_on}" if data and one.first.trained_on else ""
    return f"{one.first.method}{on}{f', {one.first.base}' if bases and one.first.base else ''}" or "unknown"
