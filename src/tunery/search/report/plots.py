"""Pictures of a study as a whole: its history, the Pareto front, dev scores against locked ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tunery.records import Finalist, StudyRecord, TrialRow
from tunery.reporting.figures import (
    BLUE,
    DPI,
    GREY,
    HOLLOW,
    ORANGE,
    PALE,
    WIDTH_INCHES,
    finish,
    in_unit,
    legend_below,
    one_axes,
    title,
)
from tunery.reporting.text import shown
from tunery.search.report.facts import complete, is_better, mean, means, pareto, spread

OWN_SETTINGS = "the project's own settings"
PRUNED, FAILED = "#b58900", "#b53a3a"
_SIDES = ((1, -1), (-1, 1), (1, 1), (-1, -1))  # of a point, for its label: 1 is right and above
_BETTER = {"maximize": "more is better", "minimize": "less is better"}


def history_plot(record: StudyRecord, objective: str) -> Figure | None:
    """The objective of every trial in order, and the best so far; None without a complete trial."""
    rows = complete(record)
    if not rows:
        return None
    figure, axes = one_axes(4.0)
    good, refused = ([row for row in rows if row.feasible is wanted] for wanted in (True, False))
    if good:
        numbers, best = _best_so_far(good, record, objective)
        axes.step(numbers, best, where="post", color=ORANGE, linewidth=2, label="best so far")
        axes.scatter(*_points(good, objective), color=BLUE, s=36, zorder=3, label="complete")
    if refused:
        axes.scatter(*_points(refused, objective), s=36, zorder=3, label="constraint not met", **HOLLOW)
    own = next((row for row in rows if row.number == 0), None)
    if own is not None:
        axes.axhline(own.values[objective], color="#444444", linestyle=":", linewidth=1, label=OWN_SETTINGS)
    _rug(axes, record)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.03, y=0.12)
    in_unit(axes.yaxis, objective)
    finish(axes, "trial", objective, f"{objective} of each trial")
    legend_below(figure, [axes])
    return figure


def without_value(record: StudyRecord) -> dict[str, list[int]]:
    """Numbers of the trials that ended without a value, by how they ended."""
    return {
        "pruned": [row.number for row in record.trials if row.state == "pruned" and row.failure is None],
        "failed or infeasible": [row.number for row in record.trials if row.failure is not None],
    }


def _rug(axes: Axes, record: StudyRecord) -> None:
    """Trials without a value, as marks along the lower edge."""
    looks = ((PRUNED, "|"), (FAILED, "x"))
    for (label, numbers), (colour, marker) in zip(without_value(record).items(), looks, strict=True):
        if numbers:
            heights = [0.02] * len(numbers)
            place = axes.get_xaxis_transform()
            axes.scatter(numbers, heights, color=colour, marker=marker, s=36, transform=place, label=label, zorder=4)


def _points(rows: Sequence[TrialRow], objective: str) -> tuple[list[int], list[float]]:
    return [row.number for row in rows], [row.values[objective] for row in rows]


def _best_so_far(rows: Sequence[TrialRow], record: StudyRecord, objective: str) -> tuple[list[int], list[float]]:
    numbers, values = _points(rows, objective)
    best = values[:1]
    for value in values[1:]:
        best.append(value if is_better(record, objective, value, best[-1]) else best[-1])
    last = max(row.number for row in record.trials)
    return [*numbers, last], [*best, best[-1]]


def pareto_plot(record: StudyRecord) -> Figure | None:
    """Every pair of objectives with the front of all of them; None unless there are two or three."""
    names = list(record.objectives)
    rows = complete(record)
    if len(names) not in (2, 3) or not rows:
        return None
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    size = (WIDTH_INCHES if len(pairs) == 1 else 4.2 * len(pairs), 4.6)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (up, across) in zip(grid, pairs, strict=True):
        _front(axes, rows, record, across, up)
        axes.margins(0.12)
        in_unit(axes.xaxis, across, ticks=6 if len(pairs) == 1 else 4)
        in_unit(axes.yaxis, up)
        finish(axes, *(f"{name} ({_BETTER[record.objectives[name]]})" for name in (across, up)))
    title(figure, "Pareto front; the numbers are those of the trials")
    legend_below(figure, list(grid))
    return figure


def _front(axes: Axes, rows: Sequence[TrialRow], record: StudyRecord, across: str, up: str) -> None:
    front = set(pareto(record))
    best = sorted((row for row in rows if row.number in front), key=lambda row: row.values[across])
    others = [row for row in rows if row.feasible and row.number not in front]
    refused = [row for row in rows if not row.feasible]
    if len(record.objectives) == 2:
        # A staircase: between two trials nothing better than the worse of them was seen.
        where: Literal["post", "pre"] = "post" if record.objectives[across] == "minimize" else "pre"
        axes.step(*_at(best, across, up), where=where, color=ORANGE, linewidth=1, linestyle="--", zorder=1)
    if others:
        axes.scatter(*_at(others, across, up), color=PALE, s=34, label="beaten by another trial")
    if refused:
        axes.scatter(*_at(refused, across, up), s=34, label="constraint not met", **HOLLOW)
    axes.scatter(*_at(best, across, up), color=ORANGE, s=46, zorder=3, label="on the front")
    for place, row in enumerate(best):
        at = (row.values[across], row.values[up])
        to = (-4, 6) if place % 2 == 0 else (5, -12)  # in turn: neighbours lie close together
        axes.annotate(str(row.number), at, xytext=to, textcoords="offset points", fontsize=8, zorder=4)


def _at(rows: Sequence[TrialRow], across: str, up: str) -> tuple[list[float], list[float]]:
    return [row.values[across] for row in rows], [row.values[up] for row in rows]


def finalists_plot(record: StudyRecord) -> Figure | None:
    """Mean dev against mean locked score of each finalist; None until locked items were scored.

    On the line both are equal; below it, the dev score promised more than the locked items gave.
    """
    scored = [one for one in record.finalists if one.dev and one.locked]
    if not scored:
        return None
    figure = Figure(figsize=(6.4, 5.9), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    places: dict[tuple[float, float], list[Finalist]] = {}
    for one in sorted(scored, key=lambda one: one.trial == record.winner):
        places.setdefault((mean(one.dev), mean(one.locked)), []).append(one)
    # In turn on each side of its point: neighbours in rank are often neighbours on the page.
    for at, side in zip(sorted(places, key=lambda at: at[1]), cycle(_SIDES), strict=False):
        _at_one_place(axes, at, places[at], record, side)
    for label, colour in _kinds(scored, record).items():
        axes.plot([], [], color=colour, marker="o", markersize=7, linestyle="none", label=label)
    low, high = _limits([value for one in scored for value in (*one.dev, *one.locked)])
    axes.plot([low, high], [low, high], color="#444444", linestyle=":", linewidth=1, label="dev = locked", zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    across, up = ("score on dev items, mean ± sd of seeds", "score on locked items, mean ± sd of seeds")
    finish(axes, across, up, finalists_title(record))
    legend_below(figure, [axes], columns=2)
    return figure


def finalists_title(record: StudyRecord) -> str:
    """What dev scores against locked ones tell; of a search that went by something else, how good finalists are."""
    first = next(iter(record.objectives))
    return "Did the search fool itself?" if first == "score" else f"Scores of the finalists, and their {first}"


def finalist_label(one: Finalist, record: StudyRecord) -> str:
    """A finalist's trial, with what it was judged by where that is not the score."""
    first = next(iter(record.objectives))
    value = means(one, record.objectives)[first]
    return f"trial {one.trial}" if first == "score" else f"trial {one.trial}: {shown(first, value)}"


def _kind(one: Finalist, record: StudyRecord) -> tuple[str, str]:
    """What a finalist is called in the legend, and its colour."""
    if one.trial == record.winner:
        return "winner", ORANGE
    return (OWN_SETTINGS, GREY) if one.own else ("other finalists", BLUE)


def _kinds(scored: Sequence[Finalist], record: StudyRecord) -> dict[str, str]:
    return dict(sorted((_kind(one, record) for one in scored), key=lambda kind: kind[1] != ORANGE))


def _at_one_place(
    axes: Axes, at: tuple[float, float], there: Sequence[Finalist], record: StudyRecord, side: tuple[int, int]
) -> None:
    """Finalists of equal scores, the winner in front, each other one as a ring around those before it."""
    for inside, one in enumerate(reversed(there)):
        across, up = (None if math.isnan(spread(side)) else spread(side) for side in (one.dev, one.locked))
        look: dict[str, Any] = {"marker": "o", "markersize": 8 + 5 * inside, "markeredgecolor": "white"}
        colour = _kind(one, record)[1]
        axes.errorbar(*at, xerr=across, yerr=up, color=colour, capsize=3, zorder=4 - 0.1 * inside, **look)
    right, above = side
    axes.annotate(
        "\n".join(finalist_label(one, record) for one in reversed(there)),
        at,
        xytext=(8 * right, 8 * above),
        textcoords="offset points",
        fontsize=8,
        ha="left" if right > 0 else "right",
        va="bottom" if above > 0 else "top",
    )


def _limits(values: Sequence[float]) -> tuple[float, float]:
    room = max(0.15 * (max(values) - min(values)), 0.01)
    return min(values) - room, max(values) + room
