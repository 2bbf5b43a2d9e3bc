"""Pictures of one run: loss curves, scores against validation loss, scores beside the base's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunery.records.runs import StepMetrics
from tunery.reporting.figures import BLUE, GREY, ORANGE, PALE, finish, one_axes
from tunery.reporting.rank_correlation import correlation_label
from tunery.runs.report.checkpoints import checkpoint_correlation, scored_checkpoints
from tunery.statistics.paired import TaskDifference

_HEIGHT_INCHES, _WIDTH_INCHES = 4.0, 7.0
_REACH = 5  # points on each side of the running mean: one of the points before alone would lag behind a falling loss


def loss_plot(history: Sequence[StepMetrics], kept_step: int) -> Figure:
    """Training loss (faint: each point; firm: running mean) and validation loss over optimizer steps."""
    return _curves(history, kept_step, "train/loss", "validation/nll", "Loss")


def divergence_plot(history: Sequence[StepMetrics], kept_step: int) -> Figure | None:
    """The same of the divergence from the teacher of context distillation; None without one."""
    if not series(history, "train/kl")[0]:
        return None
    return _curves(history, kept_step, "train/kl", "validation/kl", "Divergence from the teacher")


def _curves(history: Sequence[StepMetrics], kept_step: int, trained: str, held_out: str, title: str) -> Figure:
    figure, axes = one_axes(_HEIGHT_INCHES, _WIDTH_INCHES)
    steps, losses = series(history, trained)
    axes.plot(steps, losses, color=PALE, linewidth=1, label=trained)
    means = [fmean(losses[max(0, at - _REACH) : at + _REACH + 1]) for at in range(len(losses))]
    axes.plot(steps, means, color=BLUE, linewidth=2, label=f"{trained}, running mean")
    steps, losses = series(history, held_out)
    if steps:
        axes.plot(steps, losses, color=ORANGE, marker="o", linewidth=2, label=held_out)
    axes.axvline(kept_step, color="#444444", linestyle=":", linewidth=1, label=f"kept: step {kept_step}")
    _finish(axes, "optimizer step", "nats per target token", title)
    return figure


def score_against_loss_plot(history: Sequence[StepMetrics]) -> Figure | None:
    """Dev score of each checkpoint against its validation loss, in order of training; None without two such points."""
    points, correlation = scored_checkpoints(history), checkpoint_correlation(history)
    if correlation is None:
        return None
    figure, axes = one_axes(_HEIGHT_INCHES, _WIDTH_INCHES)
    losses, scores, _ = zip(*points, strict=True)
    axes.plot(losses, scores, color=BLUE, marker="o", label="checkpoints")
    for place, (nll, score, step) in enumerate(points):
        offset = (0, 8 if place % 2 == 0 else -14)  # late checkpoints lie close together
        axes.annotate(f"step {step}", (nll, score), xytext=offset, textcoords="offset points", fontsize=8, ha="center")
    axes.margins(x=0.1, y=0.15)
    axes.invert_xaxis()
    loss = "validation loss, nats per target token (better to the right)"
    _finish(axes, loss, "score on dev items", f"Does lower loss mean a better score?\n{correlation_label(correlation)}")
    return figure


def scores_plot(
    pairs: Sequence[TaskDifference], parents: Mapping[str, float] | None = None, side: str = "tuned"
) -> Figure | None:
    """Both scores of each task as two dots on a line; None when nothing was scored.

    Args:
        parents: Scores of the adapter that training began with, by task: a third dot.
        side: What stands beside the base: RunRecord.side.
    """
    if not pairs:
        return None
    figure, axes = one_axes(1.4 + 0.6 * len(pairs), _WIDTH_INCHES)
    for row, pair in enumerate(pairs):
        sides = [[max(0.0, pair.delta - pair.low)], [max(0.0, pair.high - pair.delta)]]
        axes.plot([pair.base, pair.tuned], [row, row], color=PALE, linewidth=4, zorder=1)
        axes.scatter(pair.base, row, color=GREY, s=70, zorder=2, label="base" if row == 0 else None)
        axes.errorbar(
            pair.tuned,
            row,
            xerr=None if math.isnan(pair.low) else sides,
            color=BLUE,
            marker="o",
            markersize=8,
            capsize=4,
            zorder=3,
            label=f"{side}, 95% interval of the gain" if row == 0 else None,
        )
    rows = {pair.task: row for row, pair in enumerate(pairs)}
    if parents:
        places = [rows[task] for task in parents]
        axes.scatter(list(parents.values()), places, color=ORANGE, s=70, zorder=2, label="parent")
    axes.set_yticks(range(len(pairs)), [f"{pair.task}\n{pair.metric}" for pair in pairs])
    axes.set_ylim(len(pairs) - 0.5, -1.2)  # room for the legend above the first row
    axes.set_xlim(0, 1.02 if all(0 <= pair.tuned <= 1 for pair in pairs) else None)
    _finish(axes, "score", "", "Scores beside the base model's own")
    return figure


def series(history: Sequence[StepMetrics], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, in order."""
    points = [(step.step, step.values[name]) for step in history if name in step.values]
    return [step for step, _ in points], [value for _, value in points]


def _finish(axes: Axes, x: str, y: str, title: str) -> None:
    finish(axes, x, y, title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
