"""Pictures over the number of rows: what a method makes of more of them, what it costs, and on which tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunery.comparison.records import Board, LeaderboardRow, ScoreCell
from tunery.comparison.report.columns import COSTS
from tunery.comparison.report.drawing import are_shares, intervals_named, method_name, near_shares, reach, score_name
from tunery.records.scores import SCORE
from tunery.reporting.figures import (
    GREY,
    WIDTH_INCHES,
    finish,
    in_unit,
    legend_below,
    literal,
    panels,
    short_label,
    title,
)

_MOST_PLACES = 10  # sizes that are all written below an axis
_MOST_TASKS = 4
_SPENT = ("train_seconds", "peak_memory_bytes")
Lines = dict[str, list[LeaderboardRow]]


def learning_plot(board: Board, confidence: float) -> Figure | None:
    """Score against the number of rows, a line a method, a few tasks beside one another; None unless a method has
    several sizes."""
    lines = _by_method(board)
    if not lines:
        return None
    several = 1 < len(board.tasks) <= _MOST_TASKS
    shown = board.tasks if several else (SCORE,)
    figure, grid = panels(len(shown), WIDTH_INCHES if len(shown) < 3 else 4.0 * len(shown), 4.4)
    cells = {task: [_cell(one, task) for some in lines.values() for one in some] for task in shown}
    for axes, task in zip(grid, shown, strict=True):
        shares = are_shares(cells[task])
        for name, some, colour, shift in _drawn(lines):
            for one in some:
                found, rows = _cell(one, task), shift * (one.first.train_rows or 0)
                axes.errorbar(
                    rows, found.value, yerr=reach(found, shares=shares), color=colour, marker="o", ms=5, capsize=3
                )
            _line(axes, name, some, colour, shift, _value(task))
        for place, base in enumerate(sorted(_zero_shot(board, lines, task))):
            axes.axhline(base, color=GREY, linestyle=":", linewidth=1.2, label="base" if place == 0 else None)
        _set_sizes(axes, lines)
        axes.set_ylim(near_shares(axes.get_ylim()) if shares else axes.get_ylim())
        finish(axes, _rows_name(lines), _task_name(board, task) if several else score_name(board), "")
    title(figure, f"Learning curves, {intervals_named(list(cells.values()), confidence)}")
    legend_below(figure, grid)
    return figure


def _cell(one: LeaderboardRow, task: str) -> ScoreCell:
    return one.score if task == SCORE else one.cells[task]


def _value(task: str) -> Callable[[LeaderboardRow], float]:
    return lambda one: _cell(one, task).value


def size_cost_plot(board: Board) -> Figure | None:
    """Time and memory against the number of rows, a line a method; None without `learning_plot`, or costs."""
    lines = _by_method(board)
    names = [name for name in _SPENT if any(one.costs.get(name) for some in lines.values() for one in some)]
    if not names:
        return None
    figure, grid = panels(len(names), WIDTH_INCHES, 4.0)
    for axes, cost in zip(grid, names, strict=True):
        for name, some, colour, shift in _drawn(lines):
            known = [one for one in some if cost in one.costs]
            if known:
                _line(axes, name, known, colour, shift, _spent(cost), marker="o")
        axes.margins(y=0.08)
        axes.set_ylim(bottom=0)
        in_unit(axes.yaxis, cost)
        _set_sizes(axes, lines)
        finish(axes, _rows_name(lines), COSTS[cost], "")
    title(figure, "What more rows cost, mean over seeds")
    legend_below(figure, grid)
    return figure


def tasks_plot(board: Board, confidence: float) -> Figure | None:
    """Each contender's scores on two tasks, the first against each other one: in its domain, say, and out of it.

    None for a board of one task, of many, or of two contenders.
    """
    first, *others = board.tasks
    if not 1 < len(board.tasks) <= _MOST_TASKS or len(board.contenders) < 3:
        return None
    figure, grid = panels(len(others), WIDTH_INCHES if len(others) < 3 else 4.0 * len(others), 4.6)
    lines: Lines = defaultdict(list)
    for one in board.contenders:
        lines[method_name(board, one)].append(one)
    cells = {task: [one.cells[task] for one in board.contenders] for task in board.tasks}
    shares = {task: are_shares(some) for task, some in cells.items()}
    for axes, other in zip(grid, others, strict=True):
        for name, some, colour, _ in _drawn(lines):
            for number, one in enumerate(some):
                x, y = one.cells[first], one.cells[other]
                across, up = reach(x, shares=shares[first]), reach(y, shares=shares[other])
                axes.errorbar(
                    x.value, y.value, xerr=across, yerr=up, color=colour, marker="o", ms=5, capsize=2, elinewidth=0.8,
                    alpha=0.8, label=short_label(name, 36) if number == 0 else None,
                )  # fmt: skip
                rows = f"{one.first.train_rows:,}" if one.first.train_rows else ""
                axes.annotate(rows, (x.value, y.value), (4, 4), textcoords="offset points", fontsize=7, color=colour)
        _mark_bases(axes, board, first, other)
        axes.set_xlim(near_shares(axes.get_xlim()) if shares[first] else axes.get_xlim())
        axes.set_ylim(near_shares(axes.get_ylim()) if shares[other] else axes.get_ylim())
        finish(axes, _task_name(board, first), _task_name(board, other))
    title(figure, f"One task against another, {intervals_named(list(cells.values()), confidence)}; numbers are rows")
    legend_below(figure, grid)
    return figure


def _mark_bases(axes: Axes, board: Board, first: str, other: str) -> None:
    bases = {(one.cells[first].base, one.cells[other].base) for one in board.contenders}
    for number, (x, y) in enumerate(sorted((x, y) for x, y in bases if x is not None and y is not None)):
        axes.scatter(x, y, color=GREY, marker="X", s=70, zorder=3, label="base" if number == 0 else None)


def _task_name(board: Board, task: str) -> str:
    return literal(f"{short_label(task, 40)}, {board.contenders[0].cells[task].metric}")


# ---- lines


def _by_method(board: Board) -> Lines:
    """Contenders that saw rows, by method; only methods of several sizes, and none where there is no such."""
    lines: Lines = defaultdict(list)
    for one in board.contenders:
        if one.first.train_rows:
            lines[method_name(board, one)].append(one)
    several = {name for name, some in lines.items() if len({one.first.train_rows for one in some}) > 1}
    return {name: some for name, some in lines.items() if name in several}


def _drawn(lines: Lines) -> list[tuple[str, list[LeaderboardRow], str, float]]:
    """Lines with their colours, a little apart: the intervals of two methods at one size can then both be read."""
    middle = (len(lines) - 1) / 2
    return [
        (name, some, f"C{place}", 1 + 0.02 * (place - middle))
        for place, (name, some) in enumerate(sorted(lines.items()))
    ]


def _line(
    axes: Axes,
    name: str,
    some: Sequence[LeaderboardRow],
    colour: str,
    shift: float,
    value: Callable[[LeaderboardRow], float],
    marker: str = "",
) -> None:
    by_size: dict[float, list[float]] = defaultdict(list)
    for one in some:
        by_size[shift * (one.first.train_rows or 0)].append(value(one))
    # Where several configurations share a size, the line goes through their mean.
    sizes, averages = zip(*((size, sum(values) / len(values)) for size, values in sorted(by_size.items())), strict=True)
    axes.plot(sizes, averages, color=colour, marker=marker, markersize=5, label=short_label(name, 36))


def _spent(cost: str) -> Callable[[LeaderboardRow], float]:
    return lambda one: one.costs[cost]


def _zero_shot(board: Board, lines: Lines, task: str) -> set[float]:
    """Scores of the bases on a task: beside the lines' own, and of models that were not trained."""
    known = (_cell(one, task).base for some in lines.values() for one in some)
    beside = {base for base in known if base is not None}
    return beside | {_cell(one, task).value for one in board.contenders if one.first.method == "none"}


def _set_sizes(axes: Axes, lines: Lines) -> None:
    sizes = [one.first.train_rows or 1 for some in lines.values() for one in some]
    if max(sizes) > 5 * min(sizes):
        axes.set_xscale("log")
    places = sorted(set(sizes))
    if len(places) <= _MOST_PLACES:
        axes.set_xticks(places, [f"{size:,}" for size in places])
        axes.minorticks_off()


def _rows_name(lines: Lines) -> str:
    shown = any(one.first.method == "icl" for some in lines.values() for one in some)
    return "rows trained on, or shown in context" if shown else "rows trained on"
