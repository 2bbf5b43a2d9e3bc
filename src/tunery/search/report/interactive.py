"""A study's figures: interactive ones by Optuna as HTML that needs no network, and the same as pictures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunery.records import Finalist, StudyRecord, TrialRow
from tunery.reporting.figures import GREY, ORANGE, PALE
from tunery.reporting.text import setting, short_names
from tunery.search.report.facts import complete, finalists_first, mean, pareto, spread
from tunery.search.report.plots import (
    FAILED,
    OWN_SETTINGS,
    PRUNED,
    finalist_label,
    finalists_plot,
    finalists_title,
    history_plot,
    pareto_plot,
    without_value,
)
from tunery.search.report.setting_plots import Searched, importances_plot, parallel_plot, slice_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

_LOG = logging.getLogger(__name__)
_FEWEST_FOR_IMPORTANCES = 6
# Without these, plotly 7 shows a button that sends the figure to plotly's own server.
_PRIVATE = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False, "responsive": True}
_DARKEST = "rgb(8,48,107)"  # of Optuna's scale
_STYLE = "body{font-family:sans-serif;margin:1.5em}"


@dataclass(frozen=True)
class Figures:
    """One figure twice: to explore, and to print."""

    interactive: Interactive
    picture: Figure

    @property
    def html(self) -> str:
        """A page of its own, about 5 MB: plotly is in it, so that it opens where there is no network."""
        return _html(self.interactive, with_plotly=True, whole_page=True)


def study_figures(study: optuna.Study, record: StudyRecord) -> dict[str, Figures]:
    """Every figure that the trials suffice for, by the name of its file.

    `history`, `importances` and `slice` for the first objective, and again with its name for each further one
    (`history-train_seconds`); `parallel`; `pareto` with two or three objectives; `dev_locked` when finalists were
    scored on locked items.

    Args:
        study: Gives the ranges and scales that settings were drawn from.
        record: Gives trials, values and finalists.
    """
    space = space_of(study)
    makers: dict[str, Callable[[], Figures | None]] = {}
    for place, objective in enumerate(record.objectives):
        suffix = f"-{objective.replace('/', '_')}" if place else ""
        makers[f"history{suffix}"] = partial(_history, record, space, objective)
        makers[f"importances{suffix}"] = partial(_importances, record, space, objective)
        makers[f"slice{suffix}"] = partial(_slice, record, space, objective)
    makers["parallel"] = partial(_parallel, record, space)
    makers["pareto"] = partial(_pareto, record, space)
    makers["dev_locked"] = partial(_dev_locked, record)
    with quiet_optuna():
        drawn = {name: _try(name, make) for name, make in makers.items()}
    return {name: figures for name, figures in drawn.items() if figures is not None}


def study_page(figures: Mapping[str, Figures], title: str) -> str:
    """All figures on one page that needs no network, about 5 MB in all."""
    parts = [
        _html(one.interactive, with_plotly=place == 0, whole_page=False) for place, one in enumerate(figures.values())
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"


def _html(figure: Interactive, *, with_plotly: bool, whole_page: bool) -> str:
    page: str = figure.to_html(
        include_plotlyjs=with_plotly, include_mathjax=False, full_html=whole_page, config=_PRIVATE
    )
    return page


def _try(name: str, make: Callable[[], Figures | None]) -> Figures | None:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - hours of trials must not be lost to a picture
        _LOG.warning("the figure %r could not be drawn: %s: %s", name, type(error).__name__, error)
        return None


# ---- one function a figure


def _history(record: StudyRecord, space: Space, objective: str) -> Figures | None:
    picture = history_plot(record, objective)
    if picture is None:
        return None
    study = shown_study(record, space, [objective])
    figure = optuna.visualization.plot_optimization_history(study, target_name=objective)
    names = {row.number: escape(row.name) for row in record.trials}
    figure.for_each_trace(partial(_explain, names=names))
    _add_own_and_lost(figure, record, objective, names)
    return Figures(_finished(figure, objective, f"{objective} of each trial", x="trial", y=objective), picture)


def _explain(trace: Interactive, names: Mapping[int, str]) -> None:
    """What Optuna leaves open in its history: what a grey point is, and which settings a point stands for."""
    if trace.mode == "lines":
        trace.update(name="best so far", line_shape="hv", hoverinfo="skip")
        return
    refused = trace.name == "Infeasible Trial"
    trace.update(
        name="constraint not met" if refused else "complete",
        showlegend=len(trace.x) > 0,
        text=[names[number] for number in trace.x],
        hovertemplate="trial %{x}: %{y:.5g}<br>%{text}<extra></extra>",
        marker_size=8,
    )


def _add_own_and_lost(figure: Interactive, record: StudyRecord, objective: str, names: Mapping[int, str]) -> None:
    """What Optuna leaves out of its history: the project's own settings as a line, trials without a value as marks."""
    import plotly.graph_objects as go

    last = max(row.number for row in record.trials)
    for own in (row for row in complete(record) if row.number == 0):
        line = {"dash": "dot", "color": "#444444", "width": 1}
        value = own.values[objective]
        figure.add_trace(go.Scatter(x=[0, last], y=[value, value], mode="lines", line=line, name=OWN_SETTINGS))
    looks = ((PRUNED, "line-ns-open"), (FAILED, "x-thin-open"))
    for (kind, numbers), (colour, symbol) in zip(without_value(record).items(), looks, strict=True):
        if numbers:
            marks = go.Scatter(
                x=numbers, y=[0.02] * len(numbers), yaxis="y2", mode="markers", name=kind,
                marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
                text=[names[number] for number in numbers],
                hovertemplate=f"trial %{{x}}: {kind}<br>%{{text}}<extra></extra>",
            )  # fmt: skip
            figure.add_trace(marks)
    # Along the lower edge, whatever the objective's range is.
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def _importances(record: StudyRecord, space: Space, objective: str) -> Figures | None:
    """Shares of the objective's variance, of the settings that every trial has: fANOVA knows no conditional ones."""
    trials = len(complete(record))
    if trials < _FEWEST_FOR_IMPORTANCES or not space:
        return None
    if len({row.values[objective] for row in complete(record)}) == 1:
        return None
    study = shown_study(record, space, [objective])
    # Not Optuna's default, PED-ANOVA: where a rank of four choices decided alone, it named another setting in 12 of 12
    # studies of 20 and of 40 trials by TPE; fANOVA named the rank in all of them.
    evaluator = FanovaImportanceEvaluator(seed=0)
    shares = get_param_importances(study, evaluator=evaluator)
    if not sum(shares.values()) > 0:
        return None  # every trial had the same settings
    figure = optuna.visualization.plot_param_importances(study, evaluator=evaluator, target_name=objective)
    figure.update_layout(showlegend=False)
    title = f"What mattered for {objective} (fANOVA, {trials} complete trials)"
    return Figures(
        _finished(figure, "", title, x="share of what the settings explain", y=""),
        importances_plot(shares, objective, trials),
    )


def _slice(record: StudyRecord, space: Space, objective: str) -> Figures | None:
    picture = slice_plot(record, objective, searched_in(space))
    if picture is None:
        return None
    figure = optuna.visualization.plot_slice(shown_study(record, space, [objective]), target_name=objective)
    figure.update_traces(selector={"name": "Feasible Trial"}, marker_colorscale="Viridis", marker_size=8)
    figure.update_xaxes(exponentformat="power")
    return Figures(_finished(figure, objective, f"{objective} against each setting"), picture)


def _parallel(record: StudyRecord, space: Space) -> Figures | None:
    picture = parallel_plot(record, searched_in(space))
    if picture is None:
        return None
    study = shown_study(record, space, list(record.objectives))
    first = next(iter(record.objectives))
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name=first)
    figure.for_each_trace(_darken)
    by = f"better by {first}" if len(record.objectives) == 1 else "nearer to the Pareto front"
    return Figures(_finished(figure, "", f"Settings of each trial; the darker, the {by}"), picture)


def _darken(trace: Interactive) -> None:
    """Optuna's scale ends in white, on white: the worst trials could not be seen."""
    if trace.mode == "lines" and str(trace.line.color).startswith("rgb"):
        trace.update(line={"color": _visible(trace.line.color), "width": 1.6}, opacity=0.85)
    elif trace.marker.colorscale:
        trace.marker.colorscale = [(place, _visible(colour)) for place, colour in trace.marker.colorscale]


def _visible(colour: str) -> str:
    from plotly.colors import find_intermediate_color

    mixed: str = find_intermediate_color(colour, _DARKEST, 0.3, colortype="rgb")
    return mixed


def _pareto(record: StudyRecord, space: Space) -> Figures | None:
    picture = pareto_plot(record)
    if picture is None or not pareto(record):
        return None
    figure = optuna.visualization.plot_pareto_front(shown_study(record, space, list(record.objectives)))
    figure.for_each_trace(_name_kind)
    return Figures(_finished(figure, "", "Pareto front"), picture)


def _name_kind(trace: Interactive) -> None:
    """One firm colour a kind, in the legend; Optuna's shades for the order of trials leave the early ones invisible."""
    hovered = str(trace.hovertemplate)
    if ">Infeasible Trial<" in hovered:
        name, colour = "constraint not met", GREY
    elif ">Best Trial<" in hovered:
        name, colour = "on the front", ORANGE
    else:
        name, colour = "beaten by another trial", PALE
    marker = {"color": colour, "size": 8 if trace.type == "scatter" else 5, "showscale": False}
    trace.update(name=name, showlegend=len(trace.x) > 0, marker=marker)


def _dev_locked(record: StudyRecord) -> Figures | None:
    import plotly.graph_objects as go

    picture = finalists_plot(record)
    if picture is None:
        return None
    scored = [one for one in finalists_first(record) if one.dev and one.locked]
    values = [value for one in scored for value in (*one.dev, *one.locked)]
    ends = [min(values), max(values)]
    line = go.Scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "#444444"}, name="dev = locked")
    last_drawn = sorted(scored, key=lambda one: one.trial == record.winner)  # nobody lies over the winner
    figure = go.Figure([line, *(go.Scatter(_point(one, record)) for one in last_drawn)])
    names = ("score on dev items, mean ± sd of seeds", "score on locked items, mean ± sd of seeds")
    return Figures(_finished(figure, "", finalists_title(record), *names), picture)


def _point(one: Finalist, record: StudyRecord) -> dict[str, object]:
    role = " (winner)" if one.trial == record.winner else " (the project's own settings)" if one.own else ""
    return {
        "x": [mean(one.dev)],
        "y": [mean(one.locked)],
        "error_x": {"array": [spread(one.dev)]},
        "error_y": {"array": [spread(one.locked)]},
        "mode": "markers",
        "marker": {"size": 10 if one.trial == record.winner else 14},
        "name": f"{finalist_label(one, record)}{role}",
        "hovertemplate": f"{escape(one.name)}<br>dev %{{x:.4f}}<br>locked %{{y:.4f}}<extra></extra>",
    }


def _finished(figure: Interactive, metric: str, title: str, x: str | None = None, y: str | None = None) -> Interactive:
    """Title, axis names, and 4G rather than 4B for bytes."""
    figure.update_layout(title=title, template="plotly_white")
    if x is not None:
        figure.update_xaxes(title_text=x)
    if y is not None:
        figure.update_yaxes(title_text=y)
    if metric.endswith("_bytes"):
        figure.update_yaxes(exponentformat="SI")
    return figure


Space = Mapping[str, BaseDistribution]


def space_of(study: optuna.Study) -> Space:
    """The distribution of every searched key, in the order in which keys were drawn first."""
    space: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, distribution in trial.distributions.items():
            space.setdefault(key, distribution)
    return space


def searched_in(space: Space) -> list[Searched]:
    """Every searched key as an axis."""
    labels = short_names(space)
    return [
        Searched(key, labels[key], bool(getattr(one, "log", False)), isinstance(one, IntDistribution), _choices(one))
        for key, one in space.items()
    ]


def _choices(distribution: BaseDistribution) -> tuple[str, ...] | None:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(setting(choice) for choice in distribution.choices)
    return None


def shown_study(record: StudyRecord, space: Space, objectives: Sequence[str]) -> optuna.Study:
    """A study in memory with the record's complete trials, numbered as the record numbers them.

    The real study has more: attempts of workers that died, trials that two workers asked for at once. In it, a trial's
    number would be another than in the report.

    Args:
        objectives: Those that the trials of the new study have values for; with one, Optuna also draws the best so far.
    """
    study = optuna.create_study(directions=[StudyDirection[record.objectives[name].upper()] for name in objectives])
    study.set_metric_names(list(objectives))
    rows = {row.number: row for row in complete(record)}
    for number in range(max(rows, default=-1) + 1):
        row = rows.get(number)
        study.add_trial(_as_trial(row, space, objectives) if row else create_trial(state=TrialState.FAIL))
    return study


def _as_trial(row: TrialRow, space: Space, objectives: Sequence[str]) -> FrozenTrial:
    labels = short_names(space)
    # Settings outside of their range can only be the project's own; Optuna would refuse the trial for them.
    drawn = {key: row.settings[key] for key in space if key in row.settings and _holds(space[key], row.settings[key])}
    return create_trial(
        values=[row.values[name] for name in objectives],
        params={labels[key]: value for key, value in drawn.items()},
        distributions={labels[key]: space[key] for key in drawn},
        user_attrs={"settings": row.name},
        constraints=None if row.feasible else {"not met": 1.0},
    )


def _holds(distribution: BaseDistribution, value: object) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(distribution, (IntDistribution, FloatDistribution)) and isinstance(value, (int, float)):
        return distribution.low <= value <= distribution.high
    return False


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says that a study was made in memory, and warns of what is experimental: neither is for the user."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
