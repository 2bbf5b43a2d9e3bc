"""How much each configuration improved on its base, benchmark by benchmark, and the average that follows from these."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tunery.comparison.records import Board, LeaderboardRow, ScoreCell
from tunery.comparison.report.section import TableSection
from tunery.reporting.text import counted, number, plus_minus

_NOTES = (
    "Improvement: tuned - base on the same items, above 0 where the tuned model is better, ± the standard error of the "
    "paired difference.",
    "Average: the mean of the improvements above it, every benchmark counting alike, with the standard error of that "
    "mean. In the relative column: the mean of the relative improvements above it, which is not the relative "
    "improvement of the average score.",
)


def improvements(board: Board) -> TableSection | None:
    """Base, tuned and improvement ± error of each benchmark, configurations by what they were trained on; averages.

    None where no configuration has a base.
    """
    rows: list[tuple[str, ...]] = []
    groups: list[int] = []
    for one in sorted(board.contenders, key=lambda one: (one.first.trained_on, one.place)):
        found = _rows(one, board.tasks)
        groups += [len(rows)] if rows and found else []
        rows += found
    less = [task for task in board.tasks if not board.contenders[0].cells[task].higher_is_better]
    notes = [*_NOTES, *([f"Less is better: {', '.join(less)}."] if less else [])]
    headings = ("trained on", "configuration", "benchmark", " base", " tuned", " improvement", " relative")
    return (
        TableSection("Improvement over the base", headings, tuple(rows), tuple(groups), tuple(notes)) if rows else None
    )


def _rows(one: LeaderboardRow, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """A row a benchmark, and the average of several; nothing unless each has a base."""
    cells = [one.cells[task] for task in tasks]
    if one.score.gain is None or any(cell.gain is None for cell in cells):
        return []
    who = (one.first.trained_on or "–", one.name)
    relative = [_relative(cell) for cell in cells]
    found: list[tuple[str, ...]] = [
        (*who, f"{cell.task} ({cell.metric})", *_figures(cell), _percent(share))
        for cell, share in zip(cells, relative, strict=True)
    ]
    if len(cells) > 1:
        average = f"average of {counted(len(cells), 'benchmark')}"
        found.append((*who, average, *_average(one.score, cells), _percent(statistics.fmean(relative))))
    return found


def _average(score: ScoreCell, cells: Sequence[ScoreCell]) -> tuple[str, str, str]:
    """The score, whose values are above 0 where more is better, as the benchmarks have theirs.

    Of accuracy and perplexity together there is no mean that says anything; their improvements have one.
    """
    base, tuned, improvement = _figures(score)
    directions = {cell.higher_is_better for cell in cells}
    if len(directions) > 1:
        return "–", "–", improvement
    if directions == {False}:
        base, tuned = number(-score.base) if score.base is not None else base, number(-score.value)
    return base, tuned, improvement


def _figures(cell: ScoreCell) -> tuple[str, str, str]:
    assert cell.gain is not None, "only configurations with a base are shown"
    error = cell.gain.stderr or None  # of answers that do not vary there is none
    return number(cell.base), number(cell.value), plus_minus(cell.gain.value, error, sign=True)


def _relative(cell: ScoreCell) -> float:
    """The improvement as a share of the base's score; NaN where that is 0."""
    assert cell.gain is not None, "only configurations with a base are shown"
    return cell.gain.value / abs(cell.base) if cell.base else math.nan


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:+.2%}"
