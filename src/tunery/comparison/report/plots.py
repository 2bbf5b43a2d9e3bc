"""Pictures of a comparison: places with intervals, trained on x evaluated on, cost, ranks over tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tunery.comparison.records import Board, Comparison, LeaderboardRow
from tunery.comparison.report.columns import COSTS, cell_of, means, shown_tasks
from tunery.comparison.report.conclusions import places
from tunery.comparison.report.drawing import reach, score_name
from tunery.comparison.report.members import members_plot
from tunery.comparison.report.size_plots import learning_plot, size_cost_plot, tasks_plot
from tunery.comparison.report.speed_plot import speed_plot
from tunery.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    WIDTH_INCHES,
    finish,
    in_unit,
    legend_below,
    number_places,
    one_axes,
    panels,
    short_label,
    title,
)
from tunery.reporting.text import signed

_MOST_ROWS = 30  # of the leaderboard
_MOST_COSTS = 3  # panels beside one another
_MOST_LINES = 10  # colours that can be told apart
_CURVES = {"train/loss": "training loss", "validation/nll": "validation loss"}


def figures(comparison: Comparison) -> dict[str, Figure]:
    """Every picture that there is something to draw for, by name.

    Returns:
        Of leaderboard, matrix, cost, speed, ranks (the critical-difference diagram), loss, learning, rows_cost, tasks,
        members, in this order.
    """
    board, confidence = comparison.main, comparison.confidence
    drawn = {
        "leaderboard": leaderboard_plot(board, confidence),
        "matrix": matrix_plot(board),
        "cost": cost_plot(board),
        "speed": speed_plot(board, score_name(board)),
        "ranks": ranks_plot(board, confidence),
        "loss": loss_plot(board),
        "learning": learning_plot(board, confidence),
        "rows_cost": size_cost_plot(board),
        "tasks": tasks_plot(board, confidence),
        "members": members_plot(board),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def leaderboard_plot(board: Board, confidence: float) -> Figure:
    """Each contender's score with its interval and its base's; on the right the places that the data allow."""
    rows = board.contenders[:_MOST_ROWS]
    figure, axes = one_axes(1.7 + 0.36 * len(rows))
    right: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8, "color": "#444444"}
    for place, one in enumerate(rows):
        axes.errorbar(
            one.score.value, place, xerr=reach(one.score), color=BLUE, marker="o", markersize=7, capsize=3,
            linewidth=1.6, label=f"score, {confidence:.0%} interval" if place == 0 else None,
        )  # fmt: skip
        if one.score.base is not None:
            axes.scatter(one.score.base, place, color=GREY, marker="|", s=120, linewidths=2.5, zorder=1, label="base")
        axes.annotate(places(one), (1.01, place), **right)
    axes.annotate("places", (1.01, -0.9), **right)
    labels = [f"{short_label(one.name, 40)}{f' ×{one.seeds}' if one.seeds > 1 else ''}" for one in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    every = len(board.contenders)
    first = f", the first {len(rows)} of {every}" if every > len(rows) else ""
    finish(axes, score_name(board), "", f"Leaderboard{first}")
    legend_below(figure, [axes])
    return figure


def matrix_plot(board: Board) -> Figure | None:
    """Mean delta from the base by training data and task; colour is the gain, so that blue is better throughout."""
    rows, tasks = means(board), shown_tasks(board)
    signs = np.array([1 if cell_of(board, task).higher_is_better else -1 for task in tasks])
    gains = np.array([signs * np.array([found[task][1] for task in tasks]) for found in rows.values()])
    if not rows or np.isnan(gains).all():
        return None
    figure, axes = one_axes(1.8 + 0.55 * len(rows), max(4.5, 2.6 + 1.15 * len(tasks)))
    most = float(np.nanmax(np.abs(gains))) or 1.0
    image = axes.imshow(gains, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (row, column), gain in np.ndenumerate(gains):
        value, delta = rows[list(rows)[row]][tasks[column]]
        text = "–" if math.isnan(value) else f"{value:.3f}\n{signed(delta, 3)}"
        colour = "white" if abs(gain) > 0.6 * most else "#222222"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    turned: dict[str, Any] = {"rotation": 25, "ha": "right"} if len(tasks) > 3 else {}
    axes.set_xticks(range(len(tasks)), [short_label(task, 24) for task in tasks], fontsize=9, **turned)
    axes.set_yticks(range(len(rows)), [short_label(name, 30) for name in rows], fontsize=9)
    axes.set(xlabel="evaluated on", ylabel="trained on")
    axes.set_title("Mean score, and delta from the base", loc="left", fontsize=12)
    figure.colorbar(image, ax=axes, label="gain over the base", shrink=0.9)
    return figure


def cost_plot(board: Board) -> Figure | None:
    """Score against each known cost, with the Pareto front: nothing else scores more for less."""
    names = [name for name in COSTS if len({one.costs[name] for one in board.contenders if name in one.costs}) > 1]
    names = names[:_MOST_COSTS]
    if not names:
        return None
    width = WIDTH_INCHES if len(names) < 3 else 4.0 * len(names)
    figure, grid = panels(len(names), width, 4.4, sharey=True)
    for place, (axes, name) in enumerate(zip(grid, names, strict=True)):
        _against(axes, board, name)
        axes.margins(0.14)
        in_unit(axes.xaxis, name, ticks=4)
        if name.endswith(("_parameters", "_joules")):
            axes.xaxis.set_major_formatter(EngFormatter("J" if name.endswith("_joules") else ""))  # 400 k, 1.2 M
        finish(axes, f"{COSTS[name]} (less is better)", score_name(board) if place == 0 else "", "")
    title(figure, "What a score costs; the numbers are places on the leaderboard")
    legend_below(figure, grid)
    return figure


def _against(axes: Axes, board: Board, name: str) -> None:
    known = [one for one in board.contenders if name in one.costs]
    front = pareto(known, name)
    others = [one for one in known if one not in front]
    axes.step(*_points(front, name), where="post", color=ORANGE, linewidth=1, linestyle="--", zorder=1)
    for some, colour, label in ((others, PALE, "costs more, scores no more"), (front, ORANGE, "on the Pareto front")):
        if some:
            axes.scatter(*_points(some, name), color=colour, s=46, zorder=3, label=label)
    number_places(axes, [(one.place, one.costs[name], one.score.value) for one in known])


def pareto(contenders: Sequence[LeaderboardRow], cost: str) -> list[LeaderboardRow]:
    """Those that nobody equals or beats at a lower cost, nor beats at the same; from the cheapest on."""
    front: list[LeaderboardRow] = []
    for one in sorted(contenders, key=lambda one: (one.costs[cost], -one.score.value)):
        equal = bool(front) and (one.costs[cost], one.score.value) == (front[-1].costs[cost], front[-1].score.value)
        if not front or equal or one.score.value > front[-1].score.value:
            front.append(one)
    return front


def _points(contenders: Sequence[LeaderboardRow], cost: str) -> tuple[list[float], list[float]]:
    return [one.costs[cost] for one in contenders], [one.score.value for one in contenders]


def ranks_plot(board: Board, confidence: float) -> Figure | None:
    """Critical-difference diagram: a bar joins contenders whose average ranks may differ by chance (Demšar 2006)."""
    task_ranks = board.task_ranks
    if task_ranks is None:
        return None
    import scikit_posthocs as posthocs

    names = list(task_ranks.average_ranks)
    cut = [short_label(name, 32) for name in names]
    # Labels that were cut to the same text get a number.
    nth = [cut[: place + 1].count(label) for place, label in enumerate(cut)]
    labels = [label if number == 1 else f"{label} {number}" for label, number in zip(cut, nth, strict=True)]
    ranks = pd.Series(list(task_ranks.average_ranks.values()), index=labels)
    p_values = [[1.0 if one == other else task_ranks.nemenyi_p[one, other] for other in names] for one in names]
    p = pd.DataFrame(p_values, index=labels, columns=labels)
    figure, axes = one_axes(1.2 + 0.22 * len(labels))
    posthocs.critical_difference_diagram(
        ranks, p, ax=axes, alpha=1 - confidence, label_fmt_left="{label} ({rank:.2f}) ",
        label_fmt_right=" ({rank:.2f}) {label}", label_props={"fontsize": 9}, color_palette=[BLUE] * len(labels),
        crossbar_props={"color": ORANGE, "linewidth": 3}, elbow_props={"linewidth": 1},
    )  # fmt: skip
    far = f"critical difference {task_ranks.critical_difference:.2f} ({confidence:.0%})"
    axes.set_title(f"Average rank over {task_ranks.tasks} tasks; {far}", loc="left", fontsize=12)
    return figure


def loss_plot(board: Board) -> Figure | None:
    """Loss curves of the first contenders, one line a seed; None if no run has two points."""
    shown = [one for one in board.contenders if any(_curve(one, name) for name in _CURVES)][:_MOST_LINES]
    # One point is no curve, yet it belongs beside the curves of others: a run of one epoch is scored once.
    kinds = [name for name in _CURVES if any(len(points) > 1 for one in shown for points in _curve(one, name))]
    if not kinds:
        return None
    figure, grid = panels(len(kinds), WIDTH_INCHES, 4.2)
    for axes, name in zip(grid, kinds, strict=True):
        for place, one in enumerate(shown):
            for number, points in enumerate(_curve(one, name)):
                marker = "o" if len(points) < 12 else ""
                label = short_label(one.name, 36) if number == 0 else None
                steps, losses = zip(*points, strict=True)
                axes.plot(steps, losses, color=f"C{place}", linewidth=1.2, marker=marker, markersize=4, label=label)
        finish(axes, "optimizer step", "nats per target token", _CURVES[name])
    legend_below(figure, grid, columns=2)
    return figure


def _curve(one: LeaderboardRow, name: str) -> list[Sequence[tuple[int, float]]]:
    return [run.curves[name] for run in one.runs if run.curves.get(name)]
