"""Curves of a comparison: losses over the steps, and scores over the number of rows trained on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunery.comparison.records import Board, Contender
from tunery.ranking.canvas import DPI, GREY, WIDTH_INCHES, finish, legend_below, literal, one_axes, short_label
from tunery.ranking.comparison_parts import trained_on

_MOST_LINES = 10  # colours that can be told apart
_CURVES = {"train/loss": "training loss", "validation/nll": "validation loss"}


def loss_plot(board: Board) -> Figure | None:
    """Loss curves of the first contenders, one line a seed."""
    shown = [one for one in board.contenders if any(_curve(one, name) for name in _CURVES)][:_MOST_LINES]
    kinds = [name for name in _CURVES if any(_curve(one, name) for one in shown)]
    if not kinds:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 4.2), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, name in zip(grid, kinds, strict=True):
        for one, colour in zip(shown, _colours(len(shown)), strict=True):
            for number, points in enumerate(_curve(one, name)):
                marker = "o" if len(points) < 12 else ""
                label = short_label(one.name, 36) if number == 0 else None
                axes.plot(
                    *zip(*points, strict=True), color=colour, linewidth=1.2, marker=marker, markersize=4, label=label
                )
        finish(axes, "optimizer step", "nats per target token", _CURVES[name])
    legend_below(figure, list(grid), columns=2)
    return figure


def _curve(one: Contender, name: str) -> list[Sequence[tuple[int, float]]]:
    return [run.curves[name] for run in one.runs if run.curves.get(name)]


def _colours(number: int) -> list[tuple[float, ...]]:
    palette = mpl.colormaps["tab10"]
    return [palette(place % 10) for place in range(number)]


def learning_plot(board: Board, confidence: float) -> Figure | None:
    """Score against the number of rows trained on, a line a method; None unless a method has several sizes."""
    lines: dict[str, list[Contender]] = defaultdict(list)
    several = len(trained_on(board)) > 1
    for one in board.contenders:
        if one.first.train_rows:
            lines[f"{one.first.method} on {one.first.trained_on}" if several else one.first.method].append(one)
    lines = {name: some for name, some in lines.items() if len({one.first.train_rows for one in some}) > 1}
    if not lines:
        return None
    figure, axes = one_axes(4.4)
    for place, ((name, some), colour) in enumerate(zip(lines.items(), _colours(len(lines)), strict=True)):
        # A little apart, so that the intervals of two methods at one size can both be read.
        _learning_line(axes, name, some, colour, 1 + 0.02 * (place - (len(lines) - 1) / 2))
    bases = {one.score.base for some in lines.values() for one in some if one.score.base is not None}
    for place, base in enumerate(sorted(bases)):
        axes.axhline(base, color=GREY, linestyle=":", linewidth=1.2, label="base" if place == 0 else None)
    sizes = [one.first.train_rows or 1 for some in lines.values() for one in some]
    if max(sizes) > 5 * min(sizes):
        axes.set_xscale("log")
    places = sorted(set(sizes))
    if len(places) <= _MOST_LINES:
        axes.set_xticks(places, [f"{size:,}" for size in places])
        axes.minorticks_off()
    finish(axes, "rows trained on", score_name(board), f"Learning curves, {confidence:.0%} intervals")
    legend_below(figure, [axes])
    return figure


def _learning_line(axes: Axes, name: str, some: Sequence[Contender], colour: tuple[float, ...], shift: float) -> None:
    by_size: dict[float, list[float]] = defaultdict(list)
    for one in some:
        rows = shift * (one.first.train_rows or 0)
        by_size[rows].append(one.score.value)
        axes.errorbar(rows, one.score.value, yerr=reach_of(one), color=colour, marker="o", markersize=5, capsize=3)
    sizes = sorted(by_size)
    # Where several configurations share a size, the line goes through their mean.
    axes.plot(
        sizes, [sum(by_size[size]) / len(by_size[size]) for size in sizes], color=colour, label=short_label(name, 36)
    )


# ---- shared with the other pictures


def reach_of(one: Contender) -> list[list[float]] | None:
    """How far a score's interval goes to each side, as matplotlib wants it; None where no error is known."""
    if math.isnan(one.score.low):
        return None
    return [[one.score.value - one.score.low], [one.score.high - one.score.value]]


def score_name(board: Board) -> str:
    """What the axis of scores is called."""
    if len(board.tasks) == 1:
        return literal(f"{board.tasks[0]}, {board.contenders[0].cells[board.tasks[0]].metric}")
    return f"score, mean of {len(board.tasks)} tasks"
