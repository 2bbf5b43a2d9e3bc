"""Score against speed, with the Pareto front: what is lost in score for what is gained in tokens a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunery.comparison.entries import Timed
from tunery.comparison.records import Board
from tunery.comparison.report.speed import conditions_of, speeds_under
from tunery.reporting.figures import (
    ORANGE,
    PALE,
    WIDTH_INCHES,
    finish,
    legend_below,
    number_places,
    panels,
    short_label,
    title,
)
from tunery.reporting.text import counted

_MOST_PANELS = 4


class Point(NamedTuple):
    """One configuration at one batch size on one device."""

    place: int  # on the leaderboard
    speed: Timed  # tokens a second
    score: float


def speed_plot(board: Board, score_name: str) -> Figure | None:
    """Score against tokens a second, a panel a device and batch size, with the Pareto front; None below two points."""
    drawn = list(_drawn(board))[:_MOST_PANELS]
    if not drawn:
        return None
    figure, grid = panels(len(drawn), WIDTH_INCHES if len(drawn) < 3 else 4.0 * len(drawn), 4.6, sharey=True)
    for axes, (heading, points) in zip(grid, drawn, strict=True):
        _fast(axes, points)
        axes.margins(0.14)
        finish(axes, "tokens a second (more is better)", score_name if axes is grid[0] else "")
        axes.set_title(heading, loc="left", fontsize=9)
    title(figure, "Score against speed; the numbers are places on the leaderboard")
    legend_below(figure, grid)
    return figure


def _drawn(board: Board) -> Iterator[tuple[str, list[Point]]]:
    """Heading and points of each panel."""
    for conditions in conditions_of(board):
        under = [(one, speeds_under(one, conditions)) for one in board.contenders]
        for batch in sorted({batch for _, speeds in under for batch in speeds}):
            points = [
                Point(one.place, speeds[batch].tokens_per_second, one.score.value)
                for one, speeds in under
                if batch in speeds
            ]
            if len(points) > 1:
                yield f"{short_label(conditions[0], 34)}\n{counted(batch, 'prompt')} at once", points


def _fast(axes: Axes, points: Sequence[Point]) -> None:
    """Points with the intervals of their speeds, and the front."""
    front = fastest(points)
    line = sorted((point.speed.value, point.score) for point in front)
    axes.step(*zip(*line, strict=True), where="pre", color=ORANGE, linewidth=1, linestyle="--", zorder=1)
    others = [point for point in points if point not in front]
    for some, colour, label in ((others, PALE, "slower, scores no more"), (front, ORANGE, "on the Pareto front")):
        for nth, (_, speed, score) in enumerate(some):
            reach = [[speed.value - speed.low], [speed.high - speed.value]]
            axes.errorbar(
                speed.value, score, xerr=reach, color=colour, marker="o", markersize=7, capsize=3, linestyle="none",
                label=label if nth == 0 else None, zorder=3,
            )  # fmt: skip
    number_places(axes, [(place, speed.value, score) for place, speed, score in points])


def fastest(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no other one equals in speed and score while it beats them in one of the two."""

    def beaten(speed: float, score: float) -> bool:
        others = ((other.speed.value, other.score) for other in points)
        return any(one >= speed and value >= score and (one, value) != (speed, score) for one, value in others)

    return [point for point in points if not beaten(point.speed.value, point.score)]
