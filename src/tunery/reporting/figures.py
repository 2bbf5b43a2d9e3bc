"""Shared by all plots: colours, axes in the units of their metrics, short labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREY, PALE = "#1a6fb5", "#c4621a", "#9aa0a6", "#b9d4ea"
COLOURS = "viridis"
HOLLOW: dict[str, Any] = {"facecolors": "none", "edgecolors": GREY}
WIDTH_INCHES = 8.0
DPI = 130
# Characters that matplotlib's font lacks are drawn as boxes; the tables have the name.
warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
_SECONDS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def one_axes(height_inches: float, width_inches: float = WIDTH_INCHES) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    # Not pyplot's: no global state, no display needed.
    figure = Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def panels(count: int, width_inches: float, height_inches: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])


def number_places(axes: Axes, points: Sequence[tuple[int, float, float]]) -> None:
    """Places on a leaderboard beside points (place, x, y)."""
    for turn, (place, x, y) in enumerate(points):
        to = (-4, 7) if turn % 2 == 0 else (5, -12)  # in turn: neighbours lie close together
        axes.annotate(str(place), (x, y), to, textcoords="offset points", fontsize=8)


def finish(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels, a faint grid, no frame."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=12)
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 3) -> None:
    """One legend for all axes, below them so that it hides no point; none if nothing has a name."""
    found: dict[str, Artist] = {}
    for one in axes:
        handles, labels = one.get_legend_handles_labels()
        found.update(zip(map(str, labels), handles, strict=True))
    if found:
        look: dict[str, Any] = {"ncols": columns, "frameon": False, "fontsize": 8}
        figure.legend(list(found.values()), list(found), loc="outside lower center", **look)


def title(figure: Figure, text: str) -> None:
    """One title above several axes."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=12)


def in_unit(axis: Axis, metric: str, ticks: int = 7) -> None:
    """Set round ticks in the unit of a metric's name: 4, 6, 8 GiB. Call it once the limits are final."""
    scale = _SECONDS if metric.endswith("_seconds") else _BYTES if metric.endswith("_bytes") else None
    low, high = axis.get_view_interval()
    if scale is None or not high > 0:
        axis.set_major_locator(MaxNLocator(ticks))
        return
    # Two units at least, so that ticks are whole more often: 90 s rather than 1.5 min.
    unit, name = next((one for one in scale if high >= 2 * one[0]), scale[-1])
    places = [place for place in MaxNLocator(ticks).tick_values(low / unit, high / unit) if low <= place * unit <= high]
    axis.set_ticks([place * unit for place in places], [f"{place:g} {name}" for place in places])


def room_around(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Limits of an axis with some room around its values, but past neither 0 nor 1 if all lie between these.

    Args:
        values: At least one.
        share: Of the values' range, on each side.
    """
    low, high = min(values), max(values)
    room = share * (high - low) or 0.05 * abs(high) or 0.05
    if low >= 0 and high <= 1:
        return max(0.0, low - room), min(1.0, high + room)
    return low - room, high + room


def short_label(text: str, longest: int = 28) -> str:
    """Shorten a label in the middle, since similar names differ at their ends."""
    end = longest // 2
    return literal(text if len(text) <= longest else f"{text[: longest - end - 1]}…{text[-end:]}")


def literal(text: str) -> str:
    """Escape dollars: matplotlib reads the text between two of them as TeX, and fails if it is not."""
    return text.replace("$", r"\$")
