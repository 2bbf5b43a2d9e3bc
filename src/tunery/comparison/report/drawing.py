"""What the pictures of a board share: how far an interval reaches, the names of the score and of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunery.comparison.records import Board, LeaderboardRow, ScoreCell
from tunery.reporting.figures import literal

_EDGE = 0.03  # beyond 0 and 1, so that a point there is whole


def reach(cell: ScoreCell, *, shares: bool = False) -> list[list[float]] | None:
    """How far a score's interval goes to each side, as matplotlib wants it; None where no error is known.

    Args:
        cell: The score.
        shares: Cut the interval at 0 and 1, so that its ends are seen: two seeds' intervals reach far beyond.
    """
    if math.isnan(cell.low):
        return None
    low, high = (max(cell.low, 0.0), min(cell.high, 1.0)) if shares else (cell.low, cell.high)
    return [[cell.value - low], [high - cell.value]]


def are_shares(cells: Sequence[ScoreCell]) -> bool:
    """Whether all scores of an axis lie between 0 and 1."""
    return all(0 <= cell.value <= 1 for cell in cells)


def near_shares(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis of shares: no further than a little beyond 0 and 1."""
    return max(limits[0], -_EDGE), min(limits[1], 1 + _EDGE)


def intervals_named(axes: Sequence[Sequence[ScoreCell]], confidence: float) -> str:
    """What a title calls the intervals; scores an axis, since one of shares has its intervals cut."""
    is_cut = any(are_shares(cells) and any(cell.low < 0 or cell.high > 1 for cell in cells) for cells in axes)
    return f"{confidence:.0%} intervals{', cut at 0 and 1' if is_cut else ''}"


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
