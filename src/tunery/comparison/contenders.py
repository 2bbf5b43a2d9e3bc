"""The runs of a board as contenders: seeds of one configuration in one row, every score beside its base's own."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from tunery.comparison.entries import (
    RunEntry,
    TaskScore,
    Votes,
    conditions_of,
    configuration_of,
    conflicts,
    repetitions,
)
from tunery.comparison.groups import Group, remarks
from tunery.comparison.records import LeaderboardRow, ScoreCell, WinRate
from tunery.evaluation.result import averaging_of
from tunery.records.scores import SCORE, ChangedAnswers, ChosenAnswers
from tunery.reporting.text import counted
from tunery.statistics.majority import changed_answers, counts_of, majority_of
from tunery.statistics.paired import item_ids
from tunery.statistics.ranks import corrected
from tunery.statistics.significance import difference
from tunery.statistics.variance import Floats, ItemClusters, ScoreMatrix, own_estimate


@dataclass(frozen=True)
class Configuration:
    """A contender with its arrays for the tests, over the tasks that rank the board."""

    contender: LeaderboardRow
    side: ScoreMatrix


@dataclass(frozen=True)
class PairTestOptions:
    """Confidence of every interval and every "better", and the seed of the permutation tests."""

    confidence: float
    seed: int


@dataclass(frozen=True)
class _Task:
    """What the contenders of a board share on one task: the order of its items, and which are not independent."""

    name: str
    order: pd.Index | None  # by `item_ids`; None if no run's answers say anything item by item
    clusters: ItemClusters


def configurations(
    group: Group, names: Mapping[tuple[str, ...], str], options: PairTestOptions
) -> tuple[list[Configuration], list[ItemClusters], list[str]]:
    """One contender for each configuration, named by `configuration_of`; the clusters of each task; and notes."""
    rows, notes = _rows(group)
    tasks = [_task(name, group.runs) for name in group.tasks]
    others = _agreeing(group)
    more = {name: _task(name, [run for run in group.runs if run.run_id in ids]) for name, ids in others.items()}
    found: list[Configuration] = []
    for key, runs in rows.items():
        extra = [task for name, task in more.items() if all(run.run_id in others[name] for run in runs)]
        found.append(_contender(names[key], runs, [*tasks, *extra], len(tasks), options))
    return _with_corrected_gains(found), [task.clusters for task in tasks], [*notes, *remarks(group)]


def _rows(group: Group) -> tuple[dict[tuple[str, ...], list[RunEntry]], list[str]]:
    """Runs by configuration, the latest of each seed; and notes on those that are left out."""
    kept: dict[tuple[str, ...], list[RunEntry]] = {configuration_of(run): [] for run in group.runs}
    earlier: dict[str, int] = defaultdict(int)
    for runs in repetitions(group.runs):
        kept[configuration_of(runs[0])].append(runs[0])
        earlier[runs[0].name] += len(runs) - 1
    notes = [
        f"{name}: {counted(number, 'earlier run')} of the same configuration and seed left out."
        for name, number in earlier.items()
        if number
    ]
    for seeds in kept.values():
        seeds.sort(key=lambda run: (run.seed is None, run.seed or 0, run.run_id))
    return kept, notes


def _agreeing(group: Group) -> dict[str, set[str]]:
    """Tasks outside of the ranking: which runs (by id) were scored on them under the same conditions."""
    first: dict[str, Mapping[str, str]] = {}
    holders: dict[str, set[str]] = defaultdict(set)
    for run in group.runs:
        for name, score in run.tasks.items():
            if name in group.tasks or not math.isfinite(score.value):
                continue
            conditions = conditions_of(score)
            if not conflicts(conditions, first.setdefault(name, conditions)):
                holders[name].add(run.run_id)
    return holders


# ---- arrays


def _task(name: str, runs: Sequence[RunEntry]) -> _Task:
    # Runs that know which items share a passage speak for those that do not.
    for run in sorted(runs, key=lambda run: "passage" not in run.samples.get(name, ())):
        rows, clusters = _answers_of(run.samples.get(name), run.tasks[name])
        if rows is not None:
            return _Task(name, rows.index, clusters)
    return _Task(name, None, ItemClusters())


def _answers_of(samples: pd.DataFrame | None, score: TaskScore) -> tuple[pd.Series | None, ItemClusters]:
    """The metric on each item behind a score, by `item_ids`, and which of the items are not independent.

    None if the items' mean is not the score, so that nothing can be said item by item.
    """
    if samples is None or samples.empty or not {"item_id", score.metric} <= set(samples.columns):
        return None, ItemClusters()
    if score.conditions.get("split") in ("dev", "locked") and "split" in samples:
        samples = samples[samples["split"] == score.conditions["split"]]
    rows = samples.set_axis(item_ids(samples)).dropna(subset=[score.metric])
    averaging = averaging_of(rows, score.metric, score.value)
    if averaging is None:
        return None, ItemClusters()
    leaves = rows["task"] if averaging == "tasks" else None  # leaf tasks count alike whatever their sizes
    return rows[score.metric].astype(float), ItemClusters.of(rows.get("passage"), leaves)


def _sides(runs: Sequence[RunEntry], tasks: Sequence[_Task]) -> tuple[ScoreMatrix, ScoreMatrix]:
    """The runs, and the base as it was scored beside them; a task without a base score is NaN."""
    signs = np.array([1 if runs[0].tasks[task.name].higher_is_better else -1 for task in tasks])
    scores = [[run.tasks[task.name] for task in tasks] for run in runs]
    by_task = list(zip(*scores, strict=True))
    values = [[score.value for score in row] for row in scores]
    errors = [_mean_known([score.stderr for score in column]) for column in by_task]
    answers = [_averaged([(run.samples.get(task.name), run.tasks[task.name]) for run in runs], task) for task in tasks]
    own = ScoreMatrix(signs * np.array(values, dtype=float), np.array(errors), answers)
    bases = [_mean_known([score.base for score in column]) for column in by_task]
    errors = [_mean_known([score.base_stderr for score in column]) for column in by_task]
    kept = [_base_answers(runs, task) for task in tasks]
    return own, ScoreMatrix(signs * np.array([bases]), np.array(errors), kept)


def _base_answers(runs: Sequence[RunEntry], task: _Task) -> Floats | None:
    """Of the first run that keeps them: every seed is beside the same base."""
    for run in runs:
        score = run.tasks[task.name]
        if task.name in run.base_samples and score.base is not None:
            return _averaged([(run.base_samples[task.name], replace(score, value=score.base))], task)
    return None


def _averaged(kept: Sequence[tuple[pd.DataFrame | None, TaskScore]], task: _Task) -> Floats | None:
    """Each item's value, mean over seeds, in the task's order; None unless every seed answered exactly these items."""
    found = []
    for samples, score in kept:
        values, _ = _answers_of(samples, score)
        if task.order is None or values is None or len(values) != len(task.order):
            return None
        if not task.order.isin(values.index).all():
            return None
        found.append(values.reindex(task.order).to_numpy())
    mean: Floats = (1 if kept[0][1].higher_is_better else -1) * np.mean(found, axis=0)
    return mean


def _mean_known(values: Sequence[float | None]) -> float:
    """Of errors, too: seeds answer the same items, so that their mean is no surer about the items than one is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan


# ---- rows


def _contender(
    name: str, runs: Sequence[RunEntry], tasks: Sequence[_Task], ranked: int, options: PairTestOptions
) -> Configuration:
    """One row: a cell for each task, and the score over the first `ranked` of them."""
    side, base = _sides(runs, tasks)
    clusters = [task.clusters for task in tasks]
    bare = runs[0].kind == "base"
    cells = {}
    for number, task in enumerate(tasks):
        cell = _measured(side.on(number), base.on(number), [task.clusters], options, bare)
        cell = replace(cell, answers=_chosen(runs, task, side.on(number), options), changed=_changed(runs, task))
        cells[task.name] = _in_own_direction(cell, runs[0].tasks[task.name])
    counting = range(ranked)
    score = _measured(side.on(*counting), base.on(*counting), clusters[:ranked], options, bare)
    costs: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for cost, value in run.costs.items():
            if math.isfinite(value):
                costs[cost].append(value)
    means = {cost: statistics.fmean(values) for cost, values in costs.items()}
    row = LeaderboardRow(name, tuple(runs), cells, score, means, _win_rate(runs, options.confidence))
    return Configuration(row, side.on(*counting))


def _measured(
    side: ScoreMatrix, base: ScoreMatrix, clusters: Sequence[ItemClusters], options: PairTestOptions, bare: bool
) -> ScoreCell:
    """A side's score with its interval; and its gain over the base, unless it is bare: a base itself."""
    found = own_estimate(side, clusters)
    low, high = found.interval(options.confidence)  # NaN if no error is known, or if it is 0
    by_seed = side.scores.mean(axis=1)
    known = not math.isnan(base.score)
    return ScoreCell(
        SCORE, "mean", side.score, float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
        low, high, None if math.isnan(low) else found.error,
        sum(len(one) for one in side.answers if one is not None), base=base.score if known else None,
        gain=difference(side, base, clusters, options.confidence, options.seed) if known and not bare else None,
    )  # fmt: skip


def _chosen(runs: Sequence[RunEntry], task: _Task, side: ScoreMatrix, options: PairTestOptions) -> ChosenAnswers | None:
    """What the seeds chose on a task, beside the majority answer to the same items."""
    kept = [run.samples[task.name] for run in runs if "chosen" in run.samples.get(task.name, ())]
    majority = majority_of(kept[0]) if len(kept) == len(runs) and side.answers[0] is not None else None
    if majority is None or task.order is None:
        return None
    first = kept[0].set_axis(item_ids(kept[0])).loc[task.order]
    values: Floats = np.where(first["right"] == majority, 1.0, 0.0)
    score = np.array([[values @ task.clusters.weights(len(values))]])
    beside = difference(side, ScoreMatrix(score, np.array([math.nan]), [values]), [task.clusters], options.confidence)
    metric = runs[0].tasks[task.name].metric
    return ChosenAnswers(task.name, metric, counts_of(kept), majority, side.score, float(score.item()), beside)


def _changed(runs: Sequence[RunEntry], task: _Task) -> ChangedAnswers | None:
    """On how many items the seeds chose another option than the base, of the first run that keeps the base's."""
    kept = [run.samples[task.name] for run in runs if "chosen" in run.samples.get(task.name, ())]
    bases = [run.base_samples[task.name] for run in runs if "chosen" in run.base_samples.get(task.name, ())]
    if len(kept) < len(runs) or not bases:
        return None
    base, *seeds = (frame["chosen"].astype(object).set_axis(item_ids(frame)) for frame in (bases[0], *kept))
    return changed_answers(task.name, base, seeds)


def _in_own_direction(cell: ScoreCell, score: TaskScore) -> ScoreCell:
    """A cell of one task: values as the metric has them; `gain` stays above 0 where the base is beaten."""
    found = replace(
        cell, task=score.task, metric=score.metric, items=score.items or cell.items,
        higher_is_better=score.higher_is_better,
    )  # fmt: skip
    if score.higher_is_better:
        return found
    base = None if cell.base is None else -cell.base
    return replace(found, value=-cell.value, low=-cell.high, high=-cell.low, base=base)


def _win_rate(runs: Sequence[RunEntry], confidence: float) -> WinRate | None:
    """Wins among the votes that chose, with Wilson's interval; None where nobody chose."""
    votes = Votes.together([run.votes for run in runs if run.votes is not None])
    chosen = votes.wins + votes.losses
    if not chosen:
        return None
    low, high = proportion_confint(votes.wins, chosen, alpha=1 - confidence, method="wilson")
    return WinRate(votes, votes.wins / chosen, float(low), float(high))


def _with_corrected_gains(found: Sequence[Configuration]) -> list[Configuration]:
    """Gains over the base, corrected for all contenders: on the score, and on all tasks together."""
    rows = [one.contender for one in found]
    scores = iter(_corrected([row.score for row in rows]))
    cells = iter(_corrected([cell for row in rows for cell in row.cells.values()]))
    return [
        Configuration(replace(row, score=next(scores), cells={name: next(cells) for name in row.cells}), one.side)
        for row, one in zip(rows, found, strict=True)
    ]


def _corrected(cells: Sequence[ScoreCell]) -> list[ScoreCell]:
    gains = iter(corrected([cell.gain for cell in cells if cell.gain is not None]))
    return [cell if cell.gain is None else replace(cell, gain=next(gains)) for cell in cells]
