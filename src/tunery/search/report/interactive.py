"""Interactive figures of a study, drawn by Optuna with plotly, in the project's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import optuna.visualization as drawn
from optuna.distributions import IntDistribution
from optuna.importance import BaseImportanceEvaluator
from optuna.study import Study

from tunery.records.studies import StudyRecord
from tunery.reporting.figures import GREY, ORANGE, PALE, room_around
from tunery.search.report.facts import complete, mean, spread
from tunery.search.report.loss_and_score import LossGroup
from tunery.search.report.pictures import (
    DEV_LOCKED_AXES,
    EQUAL,
    LOSS_SCORE_AXES,
    LOST,
    MISSING,
    NOT_MET,
    OWN_SETTINGS,
    FinalistMark,
    dev_locked_title,
    group_label,
    loss_score_title,
    score_range,
    until,
    whole_places,
    whole_settings,
    without_value,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DARKEST = "rgb(8,48,107)"  # of Optuna's scale
_MOST_TICKS = 8


def history(study: Study, record: StudyRecord, objective: str) -> Figure:
    """The objective of every trial in order, and the best so far, beside the project's own settings."""
    figure = drawn.plot_optimization_history(study, target_name=objective)
    names = {row.number: escape(row.name) for row in record.trials}
    for trace in figure.data:
        if trace.mode == "lines":
            numbers, best = until(max(names), trace.x, trace.y)
            trace.update(x=numbers, y=best, name="best so far", line_shape="hv", hoverinfo="skip")
        else:
            trace.update(
                name=NOT_MET if trace.name == "Infeasible Trial" else "complete",
                showlegend=len(trace.x) > 0,
                text=[names[number] for number in trace.x],
                hovertemplate="trial %{x}: %{y:.5g}<br>%{text}<extra></extra>",
                marker_size=8,
            )
    _add_own_and_lost(figure, record, objective, names)
    figure.update_xaxes(**_whole(0, max(names)))
    _limit(figure, [row.values[objective] for row in complete(record)])
    return _dressed(figure, objective, f"{objective} of each trial", x="trial", y=objective)


def _add_own_and_lost(figure: Figure, record: StudyRecord, objective: str, names: Mapping[int, str]) -> None:
    """Add the project's own settings as a line, and trials without a value as marks along the lower edge."""
    for own in (row for row in complete(record) if row.number == 0):
        value, ends = own.values[objective], [0, max(row.number for row in record.trials)]
        line = {"dash": "dot", "color": "#444444", "width": 1}
        figure.add_scatter(x=ends, y=[value, value], mode="lines", line=line, name=OWN_SETTINGS)
    symbols = {"|": "line-ns-open", "x": "x-thin-open"}
    for (kind, (colour, marker)), numbers in zip(LOST.items(), without_value(record), strict=True):
        if numbers:
            figure.add_scatter(
                x=numbers, y=[0.02] * len(numbers), yaxis="y2", mode="markers", name=kind,
                marker={"symbol": symbols[marker], "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
                text=[names[number] for number in numbers],
                hovertemplate=f"trial %{{x}}: {kind}<br>%{{text}}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def _whole(low: float, high: float) -> dict[str, object]:
    """Ticks at whole numbers: of few trials, plotly would mark the halves."""
    return {"tick0": 0, "dtick": max(1, math.ceil((high - low) / _MOST_TICKS)), "tickformat": "d"}


def _limit(figure: Figure, values: Sequence[float]) -> None:
    """End the upright axis at 1 for scores; points on its end are drawn whole."""
    low, high = room_around(values)
    for axis in figure.select_yaxes():
        if axis.overlaying is None:
            axis.range = [low, high]
    figure.update_traces(cliponaxis=False, selector={"mode": "markers"})


def importances(study: Study, objective: str, evaluator: BaseImportanceEvaluator, heading: str) -> Figure:
    """How much of the objective's variance each setting explains."""
    figure = drawn.plot_param_importances(study, evaluator=evaluator, target_name=objective)
    figure.update_layout(showlegend=False)
    return _dressed(figure, "", heading, x="share of what the settings explain", y="")


def slices(study: Study, objective: str) -> Figure:
    """The objective against each searched setting, on the scale on which it was drawn."""
    figure = drawn.plot_slice(study, target_name=objective)
    figure.update_traces(selector={"name": "Feasible Trial"}, marker_size=8)
    figure.for_each_trace(_darken, selector={"name": "Feasible Trial"})
    figure.update_xaxes(exponentformat="power")
    _limit(figure, [trial.values[0] for trial in study.trials if trial.values])
    numbers = [trial.number for trial in study.trials if trial.values]
    # The colours of one trial alone say nothing.
    bar = {**_whole(min(numbers), max(numbers)), "title": {"text": "trial"}}
    colours = {"colorbar": bar, "showscale": len(numbers) > 1}
    found = {name: one for trial in study.trials for name, one in trial.distributions.items()}
    for place, trace in enumerate(figure.select_traces(selector={"name": "Feasible Trial"})):
        trace.marker.update(colours | ({"showscale": False} if place else {}))
    for axis in figure.select_xaxes():
        drawn_from = found.get(axis.title.text)
        if isinstance(drawn_from, IntDistribution) and not drawn_from.log:
            axis.update(_whole(drawn_from.low, drawn_from.high))
    # Optuna's range of choices ends with those of the feasible trials.
    figure.update_xaxes(selector={"type": "category"}, range=None, autorange=True)
    return _dressed(figure, objective, f"{objective} against each setting")


def parallel(study: Study, objective: str, heading: str) -> Figure:
    """Every complete trial as a line through its values and settings; a setting that it lacks is None."""
    figure = drawn.plot_parallel_coordinate(study, target_name=objective)
    figure.for_each_trace(_darken)
    for name, ours in {"Feasible": "complete", "Infeasible": NOT_MET}.items():
        figure.update_traces(name=ours, selector={"name": name})
    for place, label in enumerate(figure.layout.xaxis.ticktext):
        if label in whole_settings(study):
            _whole_ticks(figure, place)
    return _dressed(figure, "", heading)


def _whole_ticks(figure: Figure, place: int) -> None:
    """Mark whole numbers alone on one of the parallel axes, whose ticks are annotations."""
    ticks = [one for one in figure.layout.annotations if one.x == place and one.text != MISSING]
    first, last = ticks[0], ticks[-1]
    low, high = float(first.text), float(last.text)
    if low == high:
        return
    slope = (last.y - first.y) / (high - low)
    marks = [
        {**first.to_plotly_json(), "text": str(one), "y": first.y + slope * (one - low)}
        for one in whole_places(low, high)
    ]
    others = [one for one in figure.layout.annotations if one not in ticks]
    figure.layout.annotations = [*others, *marks]


def _darken(trace: Figure) -> None:
    """Optuna's scale ends in white: on white, the worst trials could not be seen."""
    if trace.mode == "lines" and str(trace.line.color).startswith("rgb"):
        trace.update(line={"color": _visible(trace.line.color), "width": 1.6}, opacity=0.85)
    elif trace.marker.colorscale:
        trace.marker.colorscale = [(place, _visible(colour)) for place, colour in trace.marker.colorscale]


def _visible(colour: str) -> str:
    from plotly.colors import find_intermediate_color

    mixed: str = find_intermediate_color(colour, _DARKEST, 0.3, colortype="rgb")
    return mixed


def front(study: Study, record: StudyRecord) -> Figure:
    """The values of every trial; one colour for each kind, since Optuna's shades leave the early trials invisible."""
    figure = drawn.plot_pareto_front(study, target_names=list(record.objectives))
    kinds = {">Infeasible Trial<": (NOT_MET, GREY), ">Best Trial<": ("on the front", ORANGE)}
    for trace in figure.data:
        found = (kind for hovered, kind in kinds.items() if hovered in str(trace.hovertemplate))
        name, colour = next(found, ("beaten by another trial", PALE))
        marker = {"color": colour, "size": 8 if trace.type == "scatter" else 5, "showscale": False}
        trace.update(name=name, showlegend=len(trace.x) > 0, marker=marker)
    return _dressed(figure, "", "Pareto front")


def dev_locked(record: StudyRecord, marks: Sequence[FinalistMark]) -> Figure:
    """Mean dev against mean locked score of each finalist, with its settings on hover."""
    import plotly.graph_objects as go

    figure = go.Figure()
    ends = room_around(score_range(marks), 0.15)
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "#444444"}, name=EQUAL)
    for one, label, colour, size in marks:
        figure.add_scatter(
            x=[mean(one.dev)], y=[mean(one.locked)], error_x={"array": [spread(one.dev)]},
            error_y={"array": [spread(one.locked)]}, mode="markers", name=label, marker={"size": size, "color": colour},
            hovertemplate=f"{escape(one.name)}<br>dev %{{x:.4f}}<br>locked %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(range=ends).update_yaxes(range=ends).update_traces(cliponaxis=False)
    return _dressed(figure, "", dev_locked_title(record), *DEV_LOCKED_AXES)


def score_against_loss(groups: Sequence[LossGroup]) -> Figure:
    """Dev score against validation loss, a point a trial with its settings on hover."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for group in groups:
        figure.add_scatter(
            x=group.losses, y=group.scores, mode="markers", name=group_label(group), marker={"size": 9},
            text=[f"trial {row.number}: {escape(row.name)}" for row in group.trials],
            hovertemplate="%{text}<br>loss %{x:.4f}<br>score %{y:.4f}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(showlegend=len(groups) > 1).update_xaxes(autorange="reversed")
    return _dressed(figure, "", loss_score_title(groups), *LOSS_SCORE_AXES)


def _dressed(figure: Figure, metric: str, title: str, x: str | None = None, y: str | None = None) -> Figure:
    """Title, names of the axes, and 4G rather than 4B for bytes."""
    figure.update_layout(title=title, template="plotly_white")
    if x is not None:
        figure.update_xaxes(title_text=x)
    if y is not None:
        figure.update_yaxes(title_text=y)
    if metric.endswith("_bytes"):
        figure.update_yaxes(exponentformat="SI")
    return figure
