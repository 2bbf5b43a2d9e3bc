"""The runs of a board as contenders: seeds of one configuration in one row, every score beside its base's own."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from tunery.comparison.conditions import conditions_of, conflicts
from tunery.comparison.entries import RunEntry, TaskScore, Votes, configuration_of, repetitions
from tunery.comparison.groups import Group, remarks
from tunery.comparison.pairing import answers_of, averaged
from tunery.comparison.records import LeaderboardRow, ScoreCell, WinRate
from tunery.records import SCORE
from tunery.reporting.text import counted
from tunery.statistics.ranks import corrected
from tunery.statistics.significance import difference
from tunery.statistics.variance import Floats, ItemClusters, ScoreMatrix, own_estimate


@dataclass(frozen=True)
class Configuration:
    """A contender with its arrays for the tests, over the tasks that rank the board."""

    contender: LeaderboardRow
    side: ScoreMatrix


@dataclass(frozen=True)
class _Task:
    """What the contenders of a board share on one task: the order of its items, and which are not independent."""

    name: str
    order: pd.Index | None
    clusters: ItemClusters


@dataclass(frozen=True)
class PairTestOptions:
    """Confidence of every interval and every "better", and the seed of the permutation tests."""

    confidence: float
    seed: int


def configurations(
    group: Group, names: Mapping[tuple[str, ...], str], options: PairTestOptions
) -> tuple[list[Configuration], list[ItemClusters], list[str]]:
    """One contender for each configuration.

    Args:
        names: By `configuration_of`.

    Returns:
        Configurations in the order of their first runs, the clusters of each of the board's tasks, and notes.
    """
    rows, notes = _rows(group)
    tasks = [_task(name, group.runs) for name in group.tasks]
    others = _agreeing(group)
    more = {name: _task(name, [run for run in group.runs if run.run_id in ids]) for name, ids in others.items()}
    found: list[Configuration] = []
    for key, runs in rows.items():
        extra = [task for name, task in more.items() if all(run.run_id in others[name] for run in runs)]
        contender, side = _contender(names[key], runs, [*tasks, *extra], len(tasks), options)
        found.append(Configuration(contender, side))
    return (
        _with_corrected_gains(found),
        [task.clusters for task in tasks],
        [*notes, *remarks(group)],
    )


def named(runs: Sequence[RunEntry]) -> dict[tuple[str, ...], str]:
    """A name for each configuration: that of its runs, or what their names begin with; told apart where equal."""
    rows: dict[tuple[str, ...], list[RunEntry]] = defaultdict(list)
    for run in runs:
        rows[configuration_of(run)].append(run)
    names = {key: _common_name([run.name for run in members]) for key, members in rows.items()}
    tellers: list[Callable[[RunEntry], str]] = [
        lambda run: run.trained_on,
        lambda run: run.method,
        lambda run: run.version or "",
        lambda run: run.run_id[:8],
    ]
    for tell in tellers:
        told: dict[str, set[str]] = defaultdict(set)
        for key, name in names.items():
            told[name].add(tell(rows[key][0]))
        names = {
            key: f"{name} ({what})" if len(told[name]) > 1 and (what := tell(rows[key][0])) else name
            for key, name in names.items()
        }
    return names


def _common_name(names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return names[0] or "unnamed"
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    if any(name[len(shared) :][:1].isalnum() for name in names):
        shared = re.sub(r"\w+$", "", shared)  # "lora, seed 1" and "lora, seed 12" do not share a word's half
    shared = re.sub(r"[-\s_/.,·:(=#]*(seed)?[-\s_/.,·:(=#]*$", "", shared)
    return shared if len(shared) > 2 else f"{names[0]} and {counted(len(names) - 1, 'more seed')}"


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
    first = sorted(runs, key=lambda run: "passage" not in run.samples.get(name, ()))
    found = (answers_of(run.samples.get(name), run.tasks[name]) for run in first)
    answers = next((one for one in found if one is not None), None)
    return _Task(name, None, ItemClusters()) if answers is None else _Task(name, answers.values.index, answers.clusters)


def _side(runs: Sequence[RunEntry], tasks: Sequence[_Task]) -> ScoreMatrix:
    scores = np.array([[_sign(run, task) * run.tasks[task.name].value for task in tasks] for run in runs], dtype=float)
    errors = np.array([_mean_known([run.tasks[task.name].stderr for run in runs]) for task in tasks])
    answers = [_answers([(run.samples.get(task.name), run.tasks[task.name]) for run in runs], task) for task in tasks]
    return ScoreMatrix(scores, errors, answers)


def _base_side(runs: Sequence[RunEntry], tasks: Sequence[_Task]) -> ScoreMatrix:
    """The base as it was scored beside these runs; a task without a base score is NaN."""
    values = [_mean_known([run.tasks[task.name].base for run in runs]) for task in tasks]
    scores = np.array([[_sign(runs[0], task) * value for task, value in zip(tasks, values, strict=True)]])
    errors = np.array([_mean_known([run.tasks[task.name].base_stderr for run in runs]) for task in tasks])
    return ScoreMatrix(scores, errors, [_base_answers(runs, task) for task in tasks])


def _base_answers(runs: Sequence[RunEntry], task: _Task) -> Floats | None:
    """Of the first run that keeps them: every seed is beside the same base."""
    for run in runs:
        score = run.tasks[task.name]
        if task.name in run.base_samples and score.base is not None:
            return _answers([(run.base_samples[task.name], dataclasses.replace(score, value=score.base))], task)
    return None


def _answers(kept: Sequence[tuple[pd.DataFrame | None, TaskScore]], task: _Task) -> Floats | None:
    if task.order is None:
        return None
    sign = 1 if kept[0][1].higher_is_better else -1
    return averaged([answers_of(samples, score) for samples, score in kept], task.order, sign)


def _sign(run: RunEntry, task: _Task) -> int:
    return 1 if run.tasks[task.name].higher_is_better else -1


def _mean_known(values: Sequence[float | None]) -> float:
    """Of errors, too: seeds answer the same items, so that their mean is no surer about the items than one is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan


# ---- rows


def _contender(
    name: str, runs: Sequence[RunEntry], tasks: Sequence[_Task], ranked: int, options: PairTestOptions
) -> tuple[LeaderboardRow, ScoreMatrix]:
    """One row: a cell for each task, and the score over the first `ranked` of them."""
    side, base = _side(runs, tasks), _base_side(runs, tasks)
    clusters = [task.clusters for task in tasks]
    bare = runs[0].kind == "base"
    cells = {
        task.name: _in_own_direction(
            _measured(side.on(number), base.on(number), [task.clusters], options, bare), runs[0].tasks[task.name]
        )
        for number, task in enumerate(tasks)
    }
    counting = range(ranked)
    score = _measured(side.on(*counting), base.on(*counting), clusters[:ranked], options, bare)
    row = LeaderboardRow(name, tuple(runs), cells, score, _costs(runs), _win_rate(runs, options.confidence))
    return row, side.on(*counting)


def _measured(
    side: ScoreMatrix, base: ScoreMatrix, clusters: Sequence[ItemClusters], options: PairTestOptions, bare: bool
) -> ScoreCell:
    """A side's score with its interval, and its gain over the base; greater is better.

    Args:
        bare: Whether the side is a base itself, which has no gain over itself.
    """
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


def _in_own_direction(cell: ScoreCell, score: TaskScore) -> ScoreCell:
    """A cell of one task: values as the metric has them; `gain` stays above 0 where the base is beaten."""
    found = dataclasses.replace(
        cell, task=score.task, metric=score.metric, items=score.items or cell.items,
        higher_is_better=score.higher_is_better,
    )  # fmt: skip
    if score.higher_is_better:
        return found
    base = None if cell.base is None else -cell.base
    return dataclasses.replace(found, value=-cell.value, low=-cell.high, high=-cell.low, base=base)


def _costs(runs: Sequence[RunEntry]) -> dict[str, float]:
    known: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for name, value in run.costs.items():
            if math.isfinite(value):
                known[name].append(value)
    return {name: statistics.fmean(values) for name, values in known.items()}


def _win_rate(runs: Sequence[RunEntry], confidence: float) -> WinRate | None:
    """Wins among the votes that chose, with Wilson's interval; None where nobody chose."""
    given = [run.votes for run in runs if run.votes is not None]
    votes = Votes(*(sum(getattr(one, name) for one in given) for name in ("wins", "ties", "losses")))
    chosen = votes.wins + votes.losses
    if not chosen:
        return None
    low, high = proportion_confint(votes.wins, chosen, alpha=1 - confidence, method="wilson")
    return WinRate(votes, votes.wins / chosen, float(low), float(high))


def _with_corrected_gains(found: Sequence[Configuration]) -> list[Configuration]:
    """Gains over the base, corrected for all contenders: on the score, and on all tasks together."""
    scores = iter(corrected([one.contender.score.gain for one in found if one.contender.score.gain is not None]))
    cells = [cell for one in found for cell in one.contender.cells.values()]
    tasks = iter(corrected([cell.gain for cell in cells if cell.gain is not None]))
    done = []
    for one in found:
        contender = one.contender
        new = {
            name: cell if cell.gain is None else dataclasses.replace(cell, gain=next(tasks))
            for name, cell in contender.cells.items()
        }
        score = contender.score
        score = score if score.gain is None else dataclasses.replace(score, gain=next(scores))
        done.append(Configuration(dataclasses.replace(contender, cells=new, score=score), one.side))
    return done
