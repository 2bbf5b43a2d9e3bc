"""Pictures of what was searched: what mattered, each setting against an objective, all settings at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from tunery.records import StudyRecord, TrialRow
from tunery.reporting.figures import (
    BLUE,
    COLOURS,
    DPI,
    HOLLOW,
    WIDTH_INCHES,
    finish,
    in_unit,
    legend_below,
    one_axes,
    short_label,
    title,
)
from tunery.reporting.text import setting
from tunery.search.report.facts import best_first, complete

_COLUMNS = 3  # slices in a row
_CHOICE_LABEL = 18  # characters
_AXIS_DIGITS = 26  # with a gap between labels, so many fit below the axis of one slice


@dataclass(frozen=True)
class Searched:
    """A searched setting as an axis.

    Args:
        key: Its whole key.
        label: What stands on the axis.
        log: Whether it was drawn on a logarithmic scale.
        whole: Whether it takes whole numbers only.
        choices: Its choices in the order of the project file; None for a range.
    """

    key: str
    label: str
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] | None = None

    def place(self, value: object) -> float:
        """Where a value stands on the axis."""
        if self.choices is not None:
            text = setting(value)
            return float(self.choices.index(text)) if text in self.choices else math.nan
        return float(value) if isinstance(value, (int, float)) else math.nan


def importances_plot(importances: Mapping[str, float], objective: str, trials: int) -> Figure:
    """How much of the objective's variance each setting explains; shares of one.

    Args:
        importances: Share by label.
        trials: Number of complete trials that it rests on.
    """
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure, axes = one_axes(1.5 + 0.42 * len(ordered))
    bars = axes.barh(
        [short_label(name) for name, _ in ordered], [share for _, share in ordered], color=BLUE, height=0.6
    )
    axes.bar_label(bars, [f"{share:.0%}" for _, share in ordered], padding=4, fontsize=9)
    axes.set_xlim(0, max(share for _, share in ordered) * 1.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    heading = f"What mattered for {objective} (fANOVA, {trials} complete trials)"
    finish(axes, "share of what the settings explain", "", heading)
    axes.grid(visible=False, axis="y")
    return figure


def slice_plot(record: StudyRecord, objective: str, searched: Sequence[Searched]) -> Figure | None:
    """The objective against each searched setting, coloured by the order of trials; None where nothing was searched."""
    rows = complete(record)
    drawn = [one for one in searched if any(one.key in row.settings for row in rows)]
    if not drawn:
        return None
    columns = min(_COLUMNS, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    size = (max(5.0, 3.1 * columns + 0.9), 2.9 * lines + 0.8)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    colours = Normalize(0, max(1, *(row.number for row in rows)))
    for place, (axes, one) in enumerate(zip(grid, drawn, strict=False)):
        _slice(axes, [row for row in rows if one.key in row.settings], objective, one, colours)
        finish(axes, one.label, objective if place % columns == 0 else "")
    for axes in grid[: len(drawn)]:  # now that all of them have shaped the shared limits
        in_unit(axes.yaxis, objective)
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    whole = MaxNLocator(integer=True)
    figure.colorbar(ScalarMappable(colours, COLOURS), ax=list(grid), label="trial", shrink=0.8, ticks=whole)
    title(figure, f"{objective} against each setting")
    legend_below(figure, list(grid))
    return figure


def _slice(axes: Axes, rows: Sequence[TrialRow], objective: str, one: Searched, colours: Normalize) -> None:
    refused, good = ([row for row in rows if row.feasible is wanted] for wanted in (False, True))
    if refused:
        axes.scatter(*_points(refused, objective, one), s=34, label="constraint not met", **HOLLOW)
    numbers = [row.number for row in good]
    look: dict[str, Any] = {"cmap": COLOURS, "norm": colours, "s": 34, "edgecolors": "white", "linewidths": 0.5}
    axes.scatter(*_points(good, objective, one), c=numbers, **look)
    axes.margins(x=0.08, y=0.1)
    _ticks(axes, one)


def _points(rows: Sequence[TrialRow], objective: str, one: Searched) -> tuple[list[float], list[float]]:
    return [one.place(row.settings[one.key]) for row in rows], [row.values[objective] for row in rows]


def _ticks(axes: Axes, one: Searched) -> None:
    """The horizontal axis in the scale on which the setting was drawn."""
    if one.choices is not None:
        labels = [short_label(choice, _CHOICE_LABEL) for choice in one.choices]
        turned = sum(map(len, labels)) + 2 * len(labels) > 32
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params(axis="x", labelrotation=25 if turned else 0, labelsize=8 if turned else None)
        for label in axes.get_xticklabels():
            label.set(ha="right" if turned else "center", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(labels) - 0.5)
    elif one.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        _log_ticks(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=one.whole))


def _log_ticks(axes: Axes) -> None:
    """Ticks within a power of ten where the range spans few of them: one tick reads as none. As many as have room."""
    low, high = axes.get_xlim()
    if low <= 0 or high / low >= 1000:
        return
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]
        if _have_room(ticks, low, high):
            break
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _have_room(ticks: Sequence[float], low: float, high: float) -> bool:
    """Whether the labels of neighbours on a logarithmic axis do not meet; half of each lies on the neighbour's side."""
    return all(
        math.log10(after / before) / math.log10(high / low)
        > (len(f"{before:g}") + len(f"{after:g}")) / 2 / _AXIS_DIGITS
        for before, after in pairwise(ticks)
    )


def parallel_plot(record: StudyRecord, searched: Sequence[Searched]) -> Figure | None:
    """Every complete trial as a line through its settings, coloured by the first objective; None without two settings.

    A setting whose condition did not hold has no place on its axis: the line stops there.
    """
    rows = [row for row in reversed(best_first(record)) if row.feasible]  # the best line is drawn last
    drawn = [one for one in searched if sum(one.key in row.settings for row in rows) >= 2]
    if len(drawn) < 2 or len(rows) < 2:
        return None
    objective = next(iter(record.objectives))
    values = [row.values[objective] for row in rows]
    colours = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    mappable = ScalarMappable(colours, COLOURS if record.objectives[objective] == "maximize" else f"{COLOURS}_r")
    figure, axes = one_axes(4.4, max(WIDTH_INCHES, 1.7 * len(drawn) + 1.5))
    scales = [_Scale(one, [row.settings[one.key] for row in rows if one.key in row.settings]) for one in drawn]
    for place, row in enumerate(rows):
        heights = [scale.height(row.settings.get(scale.one.key)) for scale in scales]
        best = place == len(rows) - 1
        colour = mappable.cmap(float(colours(row.values[objective])))
        axes.plot(
            heights, color=colour, linewidth=3 if best else 1.4, alpha=1 if best else 0.75, marker="o", markersize=3
        )
    for place, scale in enumerate(scales):
        scale.draw(axes, place)
    axes.set_xticks(range(len(drawn)), [short_label(one.label) for one in drawn])
    axes.set(xlim=(-0.35, len(drawn) - 0.35), ylim=(-0.06, 1.06), yticks=[])
    axes.set_title(f"Settings of each trial; the firm line is the best by {objective}", loc="left", fontsize=12)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(mappable, ax=axes, label=objective, pad=0.02)
    in_unit(bar.ax.yaxis, objective)
    return figure


class _Scale:
    """One upright axis of the parallel plot, from 0 to 1."""

    def __init__(self, one: Searched, values: Sequence[object]) -> None:
        self.one = one
        places = [self._place(value) for value in values]
        self._low, self._high = min(places), max(places)
        if one.choices is not None:
            self._low, self._high = 0.0, float(max(1, len(one.choices) - 1))

    def _place(self, value: object) -> float:
        place = self.one.place(value)
        return math.log10(place) if self.one.log and place > 0 else place

    def height(self, value: object) -> float:
        """Where a value stands; NaN, a gap in the line, for none."""
        if value is None and self.one.choices is None:
            return math.nan
        span = self._high - self._low
        return (self._place(value) - self._low) / span if span else 0.5

    def draw(self, axes: Axes, place: int) -> None:
        """The axis with its choices, or with the ends and the middle of its range."""
        axes.axvline(place, ymin=0.053, ymax=0.947, color="#888888", linewidth=1, zorder=0)
        for height, text in self._marks():
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
            axes.annotate(
                text, (place, height), xytext=(5, 0), textcoords="offset points", fontsize=8, va="center", bbox=box
            )

    def _marks(self) -> list[tuple[float, str]]:
        if self.one.choices is not None:
            return [(self.height_of_choice(n), short_label(choice)) for n, choice in enumerate(self.one.choices)]
        if self._high == self._low:
            return [(0.5, setting(self._back(self._low)))]
        marks = [(part, self._back(self._low + part * (self._high - self._low))) for part in (0.0, 0.5, 1.0)]
        return [(part, setting(value)) for part, value in marks if not self.one.whole or value.is_integer()]

    def height_of_choice(self, number: int) -> float:
        """Where the choice of this number stands."""
        return number / self._high

    def _back(self, place: float) -> float:
        value = 10.0**place if self.one.log else place
        return float(f"{value:.3g}")
