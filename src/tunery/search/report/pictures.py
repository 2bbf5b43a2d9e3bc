"""Pictures of a study, drawn by Optuna with matplotlib, in the project's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import optuna.visualization.matplotlib as drawn
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.importance import BaseImportanceEvaluator
from optuna.study import Study

from tunery.records.studies import Finalist, StudyRecord
from tunery.reporting.figures import (
    COLOURS,
    GREY,
    ORANGE,
    PALE,
    finish,
    in_unit,
    legend_below,
    literal,
    one_axes,
    room_around,
    short_label,
    title,
)
from tunery.reporting.rank_correlation import correlation_label
from tunery.reporting.text import shown
from tunery.search.report.facts import complete, finalists_first, mean, means, pareto, spread
from tunery.search.report.loss_and_score import LossGroup

OWN_SETTINGS = "the project's own settings"
NOT_MET = "constraint not met"
MISSING = "None"  # Optuna's word for a setting that a trial lacks
LOST = {"pruned": ("#b58900", "|"), "failed or infeasible": ("#b53a3a", "x")}  # trials without a value
_COLUMNS = 3  # slices in a row
DEV_LOCKED_AXES = ("score on dev items, mean ± sd of seeds", "score on locked items, mean ± sd of seeds")
EQUAL = "dev = locked"
LOSS_SCORE_AXES = ("validation loss, nats per target token (better to the right)", "score on dev items")


class FinalistMark(NamedTuple):
    """A finalist in a figure of dev and locked scores."""

    finalist: Finalist
    label: str
    colour: str
    size: int


def history(study: Study, record: StudyRecord, objective: str) -> Figure:
    """The objective of every trial in order, and the best so far, beside the project's own settings."""
    axes = drawn.plot_optimization_history(study, target_name=objective)
    good, refused = axes.collections
    _name(good, "complete")
    _name(refused, NOT_MET)
    last = max(row.number for row in record.trials)
    for line in axes.lines:
        known = np.isfinite(line.get_ydata()).any()
        numbers, best = (np.asarray(part).tolist() for part in line.get_data())
        line.set_data(*until(last, numbers, best))
        line.set(label="best so far" if known else "_", drawstyle="steps-post", color=ORANGE, alpha=1, zorder=1)
    for row in complete(record)[:1]:
        if row.number == 0:
            axes.axhline(row.values[objective], color="#444444", linestyle=":", linewidth=1, label=OWN_SETTINGS)
    for (label, (colour, marker)), numbers in zip(LOST.items(), without_value(record), strict=True):
        if numbers:  # along the lower edge
            place = axes.get_xaxis_transform()
            axes.scatter(numbers, [0.02] * len(numbers), color=colour, marker=marker, transform=place, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.03 * last - 0.1, 1.03 * last + 0.1)  # matplotlib would count the complete trials alone
    axes.set_ylim(*room_around([row.values[objective] for row in complete(record)], 0.12))
    good.set_clip_on(False)
    return _dressed(axes, objective, (8.0, 4.0), ("trial", objective), f"{objective} of each trial")


def until(last: int, numbers: Sequence[float], best: Sequence[float]) -> tuple[list[float], list[float]]:
    """A line of the best so far that goes on to the last trial, whatever became of that."""
    return [*numbers, last], [*best, best[-1]]


def without_value(record: StudyRecord) -> tuple[list[int], list[int]]:
    """Numbers of the trials that were pruned, and of those that failed or were infeasible."""
    pruned = [row.number for row in record.trials if row.state == "pruned" and row.failure is None]
    return pruned, [row.number for row in record.trials if row.failure is not None]


def importances(study: Study, objective: str, evaluator: BaseImportanceEvaluator, heading: str) -> Figure:
    """How much of the objective's variance each setting explains."""
    axes = drawn.plot_param_importances(study, evaluator=evaluator, target_name=objective)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    axes.set_yticks(axes.get_yticks(), [short_label(label) for label in labels])
    size = (8.0, 1.5 + 0.42 * len(labels))
    return _dressed(axes, "", size, ("share of what the settings explain", ""), heading, legend=False)


def slices(study: Study, objective: str) -> Figure:
    """The objective against each searched setting, on the scale on which it was drawn; the darker, the later."""
    panels = np.atleast_1d(np.asarray(drawn.plot_slice(study, target_name=objective)))
    figure: Figure = panels[0].figure
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    _resized(figure, (max(5.0, 3.1 * columns + 0.9), 2.9 * rows + 0.8))
    grid = GridSpec(rows, columns, figure)
    found = {name: one for trial in study.trials for name, one in trial.distributions.items()}
    for place, axes in enumerate(panels):
        axes.set_subplotspec(grid[divmod(place, columns)])
    for place, axes in enumerate(panels):
        label = axes.get_xlabel()
        _name(axes.collections[1], NOT_MET)
        axes.collections[0].set_cmap(f"{COLOURS}_r")  # Optuna's begins with white
        axes.set_title("")  # Optuna's own, of one setting alone
        finish(axes, short_label(label), objective if place % columns == 0 else "")
        axes.tick_params(labelleft=place % columns == 0, labelbottom=True)
        if isinstance(found[label], CategoricalDistribution):
            _choice_ticks(axes)
        else:
            _ticks(axes.xaxis, whole=isinstance(found[label], IntDistribution))
        axes.set_ylim(*room_around([trial.values[0] for trial in study.trials if trial.values]))
        axes.collections[0].set_clip_on(False)
        in_unit(axes.yaxis, objective)
    figure.suptitle("")
    colours = figure.axes[-1]
    colours.set_ylabel("trial")
    colours.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if sum(trial.values is not None for trial in study.trials) == 1:
        colours.remove()  # of one trial alone, the colours say nothing
    title(figure, f"{objective} against each setting; the darker, the later")
    legend_below(figure, list(panels))
    return figure


def parallel(study: Study, objective: str, heading: str) -> Figure:
    """Every complete trial as a line through its values and settings; a setting that it lacks is None."""
    axes = drawn.plot_parallel_coordinate(study, target_name=objective)
    lines: Any = axes.collections[0]
    lines.set_cmap(f"{COLOURS}_r" if lines.get_cmap().name == "Blues" else COLOURS)  # the darker, the better
    lines.set_linewidth(1.4)
    if any(style[1] is not None for style in lines.get_linestyles()):
        axes.plot([], [], color=GREY, linestyle=":", label=NOT_MET)
    whole = whole_settings(study)
    for label, one in zip(axes.get_xticklabels()[1:], axes.figure.axes[2:], strict=True):
        one.grid(visible=False)  # of a twin: it would lie over the lines
        if label.get_text() in whole:
            _whole_ticks(one)
        elif one.get_yscale() == "log":
            _ticks(one.yaxis)
        elif isinstance(one.yaxis.get_major_formatter(), FuncFormatter):  # choices
            labels = [short_label(label.get_text(), 18) for label in one.get_yticklabels()]
            one.set_yticks(one.get_yticks(), labels)
    names = [short_label(label.get_text()) for label in axes.get_xticklabels()]
    axes.set_xticks(axes.get_xticks(), names, rotation=20, ha="right")
    size = (max(8.0, 1.7 * len(names) + 1.5), 4.6)
    return _dressed(axes, objective, size, ("", ""), heading)


def whole_settings(study: Study) -> set[str]:
    """Settings that are whole numbers on a plain scale, as Optuna writes them: it cuts a long name."""
    found = {name: one for trial in study.trials for name, one in trial.distributions.items()}
    whole = [name for name, one in found.items() if isinstance(one, IntDistribution) and not one.log]
    return {name if len(name) < 20 else f"{name[:17]}..." for name in whole}


def whole_places(low: float, high: float) -> list[int]:
    """Ticks of such a setting: Optuna would mark 3.25, 2.5 and 1.75 between 1 and 4."""
    return [round(place) for place in MaxNLocator(4, integer=True).tick_values(low, high) if low <= place <= high]


def _whole_ticks(axes: Any) -> None:
    low, high = axes.get_ylim()
    missing = [label.get_position()[1] for label in axes.get_yticklabels() if label.get_text() == MISSING]
    places = whole_places(axes.get_yticks()[1] if missing else low, high)
    axes.set_yticks([*missing, *places], [*(MISSING for _ in missing), *map(str, places)])


def front(study: Study, record: StudyRecord) -> Figure:
    """The values of every trial, the trials on the Pareto front by their numbers."""
    axes: Any = drawn.plot_pareto_front(study)  # of two or three dimensions
    names = list(record.objectives)
    words = {"maximize": "more is better", "minimize": "less is better"}
    labels = [f"{name} ({words[direction]})" for name, direction in record.objectives.items()]
    kinds = {"Infeasible Trial": (NOT_MET, GREY), "Best Trial": ("on the front", ORANGE)}
    for points in axes.collections:
        label, colour = kinds.get(str(points.get_label()), ("beaten by another trial", PALE))
        points.set(label=label, color=colour)
    for place, row in enumerate(pareto(record)):
        at = [row.values[name] for name in names]
        if len(names) == 3:
            axes.text(*at, f" {row.number}", fontsize=8)
        else:
            to = (-4, 6) if place % 2 == 0 else (5, -12)  # in turn: neighbours lie close together
            axes.annotate(str(row.number), at, xytext=to, textcoords="offset points", fontsize=8)
    in_unit(axes.xaxis, names[0])
    heading = "Pareto front; the numbers are those of the trials"
    if len(names) == 3:
        in_unit(axes.zaxis, names[2], ticks=5)
        axes.set_zlabel(labels[2], labelpad=14)
    return _dressed(axes, names[1], (8.0, 5.0 + len(names) - 2), (labels[0], labels[1]), heading)


def finalist_marks(record: StudyRecord) -> list[FinalistMark]:
    """How finalists that were scored on dev and locked items are drawn; the winner is last, over its equals."""
    scored = [one for one in finalists_first(record) if one.dev and one.locked]
    scored.sort(key=lambda one: one.trial == record.winner)
    scale = mpl.colormaps[COLOURS].resampled(len(scored) + 1)
    first = next(iter(record.objectives))
    marks = []
    for place, one in enumerate(scored):
        won = one.trial == record.winner
        role = " (winner)" if won else f" ({OWN_SETTINGS})" if one.own else ""
        # What it was judged by, if that is not the score.
        judged = "" if first == "score" else f": {shown(first, means(one, record.objectives)[first])}"
        colour = ORANGE if won else GREY if one.own else mpl.colors.to_hex(scale(place))
        # Smaller for the winner: one of equal scores stays visible around it.
        marks.append(FinalistMark(one, f"trial {one.trial}{judged}{role}", colour, 8 if won else 13))
    return marks


def dev_locked(record: StudyRecord, marks: Sequence[FinalistMark]) -> Figure:
    """Mean dev against mean locked score: below the line, the dev score promised more than the locked items gave."""
    figure, axes = one_axes(5.9, 6.4)
    for place, (one, label, colour, size) in enumerate(marks):
        axes.errorbar(
            mean(one.dev), mean(one.locked), xerr=spread(one.dev), yerr=spread(one.locked), color=colour, marker="o",
            markersize=size, markeredgecolor="white", capsize=3, linestyle="none", zorder=2 + place, label=label,
            clip_on=False,
        )  # fmt: skip
    ends = room_around(score_range(marks), 0.15)
    axes.axline((ends[0], ends[0]), slope=1, color="#444444", linestyle=":", linewidth=1, label=EQUAL, zorder=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    finish(axes, *DEV_LOCKED_AXES, dev_locked_title(record))
    legend_below(figure, [axes], columns=2)
    return figure


def score_against_loss(groups: Sequence[LossGroup]) -> Figure:
    """Dev score against validation loss, a point a trial and a colour for each set of trials over the same tokens."""
    figure, axes = one_axes(4.6)
    for place, group in enumerate(groups):
        axes.scatter(group.losses, group.scores, color=f"C{place}", s=34, label=group_label(group), clip_on=False)
        for row, loss, score in zip(group.trials, group.losses, group.scores, strict=True):
            axes.annotate(str(row.number), (loss, score), (4, 4), textcoords="offset points", fontsize=7, color=GREY)
    axes.margins(0.08)
    axes.invert_xaxis()
    finish(axes, *LOSS_SCORE_AXES, loss_score_title(groups))
    legend_below(figure, [axes] if len(groups) > 1 else [], columns=1)
    return figure


def group_label(group: LossGroup) -> str:
    """A set of trials in a legend: what they share, and their rank correlation."""
    return literal(f"{group.name}: {correlation_label(group.correlation)}")


def loss_score_title(groups: Sequence[LossGroup]) -> str:
    """With the rank correlation, where there is only one."""
    alone = f" {correlation_label(groups[0].correlation)}" if len(groups) == 1 else ""
    return f"Does lower loss mean a better score?{alone}"


def dev_locked_title(record: StudyRecord) -> str:
    """Of a search by something else than the score, the figure shows how good the finalists are."""
    first = next(iter(record.objectives))
    return "Did the search fool itself?" if first == "score" else f"Scores of the finalists, and their {first}"


def score_range(marks: Sequence[FinalistMark]) -> tuple[float, float]:
    """The lowest and the highest of all scores."""
    scores = [score for mark in marks for score in (*mark.finalist.dev, *mark.finalist.locked)]
    return min(scores), max(scores)


def _name(points: Any, label: str) -> None:
    """Name points in the legend, if there are any."""
    points.set_label(label if len(points.get_offsets()) else "_")


def _dressed(
    axes: Any, metric: str, size: tuple[float, float], labels: tuple[str, str], heading: str, *, legend: bool = True
) -> Figure:
    """The figure on white, its upright axis in the metric's unit, its legend below."""
    figure: Figure = axes.figure
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    _resized(figure, size)
    axes.set_title("")
    finish(axes, *labels, heading)
    if metric:
        in_unit(axes.yaxis, metric)
    if legend:
        legend_below(figure, [axes])
    return figure


def _resized(figure: Any, size: tuple[float, float]) -> None:
    figure.set_layout_engine("constrained")  # a history comes with another
    figure.set_size_inches(size)
    for axes in figure.axes:
        axes.set_facecolor("white")


def _ticks(axis: Axis, *, whole: bool = False) -> None:
    """Ticks in the scale of the axis; on a logarithmic one its ends and middle, since powers of ten may be absent."""
    if axis.get_scale() != "log":
        axis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
        return
    low, high = axis.get_data_interval() if np.isfinite(axis.get_data_interval()).all() else axis.get_view_interval()
    places = np.unique(np.geomspace(low, high, 3))
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FixedFormatter([f"{place:.2g}" for place in places]))


def _choice_ticks(axes: Any) -> None:
    axes.figure.draw_without_rendering()  # the labels of choices are known only then
    labels = [short_label(label.get_text().strip("'"), 18) for label in axes.get_xticklabels()]
    turned = sum(map(len, labels)) + 2 * len(labels) > 32
    look: dict[str, Any] = {"rotation": 25, "ha": "right", "fontsize": 8} if turned else {}
    axes.set_xticks(range(len(labels)), labels, **look)
    axes.set_xlim(-0.5, len(labels) - 0.5)
