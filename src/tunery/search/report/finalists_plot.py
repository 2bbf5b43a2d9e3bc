"""Mean dev against mean locked score of each finalist: did the search fool itself? Optuna has no such plot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import matplotlib as mpl

from tunery.records import Finalist, StudyRecord
from tunery.reporting.figures import COLOURS, GREY, ORANGE, finish, legend_below, one_axes
from tunery.reporting.text import shown
from tunery.search.report.facts import finalists_first, mean, means, spread
from tunery.search.report.interactive import dressed
from tunery.search.report.pictures import OWN_SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

_AXES = ("score on dev items, mean ± sd of seeds", "score on locked items, mean ± sd of seeds")
_EQUAL = "dev = locked"


def scored_finalists(record: StudyRecord) -> list[Finalist]:
    """Finalists scored on dev and locked items; the winner is last, so that it is drawn over its equals."""
    scored = [one for one in finalists_first(record) if one.dev and one.locked]
    return sorted(scored, key=lambda one: one.trial == record.winner)


def picture(record: StudyRecord) -> Figure:
    """Below the line, the dev score promised more than the locked items gave."""
    scored = scored_finalists(record)
    figure, axes = one_axes(5.9, 6.4)
    for place, (one, colour) in enumerate(zip(scored, _colours(scored, record), strict=True)):
        axes.errorbar(
            mean(one.dev), mean(one.locked), xerr=spread(one.dev), yerr=spread(one.locked), color=colour, marker="o",
            markersize=_size(one, record), markeredgecolor="white", capsize=3, linestyle="none", zorder=2 + place,
            label=_label(one, record),
        )  # fmt: skip
    low, high = _ends(scored)
    room = max(0.15 * (high - low), 0.01)
    axes.axline((low, low), slope=1, color="#444444", linestyle=":", linewidth=1, label=_EQUAL, zorder=0)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal")
    finish(axes, *_AXES, _title(record))
    legend_below(figure, [axes], columns=2)
    return figure


def interactive(record: StudyRecord) -> Interactive:
    """The same, with the settings of each finalist on hover."""
    import plotly.graph_objects as go

    scored = scored_finalists(record)
    ends = _ends(scored)
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "#444444"}, name=_EQUAL)
    for one, colour in zip(scored, _colours(scored, record), strict=True):
        figure.add_scatter(
            x=[mean(one.dev)], y=[mean(one.locked)], error_x={"array": [spread(one.dev)]},
            error_y={"array": [spread(one.locked)]}, mode="markers", name=_label(one, record),
            marker={"size": _size(one, record), "color": colour},
            hovertemplate=f"{escape(one.name)}<br>dev %{{x:.4f}}<br>locked %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    return dressed(figure, "", _title(record), *_AXES)


def _title(record: StudyRecord) -> str:
    """Of a search by something else than the score, the figure shows how good the finalists are."""
    first = next(iter(record.objectives))
    return "Did the search fool itself?" if first == "score" else f"Scores of the finalists, and their {first}"


def _label(one: Finalist, record: StudyRecord) -> str:
    """A finalist's trial, its role, and what it was judged by if that is not the score."""
    first = next(iter(record.objectives))
    judged = "" if first == "score" else f": {shown(first, means(one, record.objectives)[first])}"
    role = " (winner)" if one.trial == record.winner else f" ({OWN_SETTINGS})" if one.own else ""
    return f"trial {one.trial}{judged}{role}"


def _size(one: Finalist, record: StudyRecord) -> int:
    """Smaller for the winner: one of equal scores stays visible around it."""
    return 8 if one.trial == record.winner else 13


def _colours(scored: Sequence[Finalist], record: StudyRecord) -> list[str]:
    scale = mpl.colormaps[COLOURS].resampled(len(scored) + 1)
    return [
        ORANGE if one.trial == record.winner else GREY if one.own else mpl.colors.to_hex(scale(place))
        for place, one in enumerate(scored)
    ]


def _ends(scored: Sequence[Finalist]) -> tuple[float, float]:
    values = [value for one in scored for value in (*one.dev, *one.locked)]
    return min(values), max(values)
