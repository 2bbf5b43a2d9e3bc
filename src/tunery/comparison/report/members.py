"""What the members of a task show, such as the subcases of a group: the best configuration of each method, untested."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunery.comparison.records import Board, LeaderboardRow
from tunery.comparison.report.drawing import method_name
from tunery.comparison.report.section import TableSection
from tunery.reporting.figures import one_axes, short_label
from tunery.reporting.text import number

_MOST_MEMBERS = 60  # in a picture; MMLU has 57
_MOST_METHODS = 8


@dataclass(frozen=True)
class MemberScores:
    """Scores on the members of one task, in the order in which it names them."""

    task: str
    metric: str
    items: Mapping[str, int]  # by member
    scores: Mapping[str, Mapping[str, float]]  # by column (the base, then a method each), then by member
    configurations: Mapping[str, str]  # by method, which configuration stands for it


def member_scores(board: Board) -> list[MemberScores]:
    """Of each task that ranks the board and has several members; from answers, so none where these were not kept."""
    best = _best_of_methods(board)
    found = [_of_task(task, best, len({one.first.base for one in board.contenders}) == 1) for task in board.tasks]
    return [one for one in found if one is not None]


def _best_of_methods(board: Board) -> dict[str, LeaderboardRow]:
    best: dict[str, LeaderboardRow] = {}
    for one in board.contenders:  # from the best score on
        if len(best) < _MOST_METHODS:
            best.setdefault(method_name(board, one), one)
    return best


def _of_task(task: str, best: Mapping[str, LeaderboardRow], one_base: bool) -> MemberScores | None:
    scores: dict[str, Mapping[str, float]] = {}
    items: dict[str, int] = {}
    for method, one in best.items():
        metric = one.cells[task].metric
        frames = [run.samples[task] for run in one.runs if "task" in run.samples.get(task, ())]
        if len(frames) < len(one.runs):
            continue
        scores[method] = _means(frames, metric)
        items = items or {
            str(name): int(count) for name, count in frames[0].groupby("task", sort=False)[metric].count().items()
        }
        base = one.first.base_samples.get(task)
        if one_base and base is not None and "task" in base and "base" not in scores:
            scores = {"base": _means([base], metric), **scores}
    if not items:
        return None
    return MemberScores(task, metric, items, scores, {name: one.name for name, one in best.items() if name in scores})


def _means(frames: Sequence[pd.DataFrame], metric: str) -> dict[str, float]:
    """Mean over seeds of each member's mean over its items."""
    seeds = [frame.groupby("task", sort=False)[metric].mean() for frame in frames]
    return {str(name): statistics.fmean(float(seed.get(name, math.nan)) for seed in seeds) for name in seeds[0].index}


def member_tables(board: Board) -> list[TableSection]:
    """A row a member, a column a method."""
    return [_table(found) for found in member_scores(board)]


def _table(found: MemberScores) -> TableSection:
    rows = tuple(
        (member, str(items), *(number(column.get(member), 3) for column in found.scores.values()))
        for member, items in found.items.items()
    )
    stand = "; ".join(f"{method}: {name}" for method, name in found.configurations.items())
    notes = (
        f"The best configuration of each method, mean over its seeds. {stand}.",
        "Members are shown, and not tested: of so many, some differ by chance.",
    )
    headings = ("member", " items", *(f" {column}" for column in found.scores))
    return TableSection(f"{found.task} by member ({found.metric})", headings, rows, notes=notes)


def members_plot(board: Board) -> Figure | None:
    """The first such table as a picture; None without one, or with more members than can be read."""
    found = next(iter(member_scores(board)), None)
    if found is None or len(found.items) > _MOST_MEMBERS:
        return None
    values = np.array([[column.get(member, math.nan) for column in found.scores.values()] for member in found.items])
    figure, axes = one_axes(1.8 + 0.25 * len(found.items))
    image = axes.imshow(values, cmap="Blues", aspect="auto")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > low + 0.6 * (high - low) else "#222222"
        axes.text(column, row, number(value, 2), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(found.scores)), [short_label(one, 24) for one in found.scores], fontsize=8)
    axes.tick_params(axis="x", rotation=15)
    axes.set_yticks(range(len(found.items)), [short_label(one, 40) for one in found.items], fontsize=8)
    axes.set_title(f"{short_label(found.task)} by member, the best of each method", loc="left", fontsize=12)
    figure.colorbar(image, ax=axes, label=found.metric, shrink=0.9)
    return figure
