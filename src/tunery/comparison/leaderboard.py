"""Many runs -> a leaderboard: who may be compared, how sure each difference is, and which places that leaves open."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from tunery.comparison.contenders import Configuration, PairTestOptions, configurations, named
from tunery.comparison.entries import RunEntry
from tunery.comparison.groups import Group, group_runs
from tunery.comparison.records import Board, Comparison, TestedPair
from tunery.errors import Fault, InputError
from tunery.records import SCORE
from tunery.statistics.ranks import average_ranks, close_groups, corrected, rank_range, ranks_over_tasks
from tunery.statistics.significance import difference
from tunery.statistics.variance import ItemClusters

# Pairs grow with the square: of more contenders only the best are tested, and corrected for as if all had been.
MOST_TESTED = 50


def rank(
    entries: Sequence[RunEntry], *, confidence: float = 0.95, seed: int = 0, tested: int = MOST_TESTED
) -> Comparison:
    """Set apart what differs in kind, make a row of each configuration, test every pair, and order by score.

    Args:
        entries: One a run. A run that is given twice counts once.
        confidence: Of every interval; 1 - confidence bounds the chance that any of a board's places rests on a false
            "better", and the chance that any of its statements about single tasks does.
        seed: Of the permutation tests.
        tested: Configurations of a board at most that are tested against one another: the best.

    Returns:
        The main board, the boards that were set apart, and the runs that cannot be ranked.

    Raises:
        InputError: If there is no run, or none with a score that can be ranked, no such confidence, or fewer than two
            are to be tested.
    """
    if not 0.5 <= confidence < 1:
        raise InputError("compare", Fault("confidence", "at least 0.5 and below 1", confidence, "Try 0.95."))
    if tested < 2:
        raise InputError("compare", Fault("tested", "at least 2", tested, f"Try {MOST_TESTED}."))
    runs = list({entry.run_id: entry for entry in entries}.values())
    if not runs:
        raise InputError("compare", Fault("there is nothing to compare", advice="Name runs that were scored."))
    groups, unranked = group_runs(runs)
    if not groups:
        faults = [Fault(f"{one.run.name} ({one.run.run_id})", one.reason) for one in unranked]
        raise InputError("compare: no run can be ranked", faults)
    names = named([run for group in groups for run in group.runs])
    boards = tuple(_board(group, names, PairTestOptions(confidence, seed), tested) for group in groups)
    return Comparison(boards, tuple(unranked), confidence)


def _board(group: Group, names: Mapping[tuple[str, ...], str], options: PairTestOptions, most: int) -> Board:
    """One board: contenders by score, each beside its base, pairs tested, places with what is open about them."""
    found, clusters, notes = configurations(group, names, options)
    ordered = sorted(found, key=lambda one: (-one.side.score, one.contender.name))
    order = [one.contender.name for one in ordered]
    tested = ordered[:most]
    family = None
    if len(order) > len(tested):
        family = len(order) * (len(order) - 1) // 2
        notes.append(f"Only the best {most} of {len(order)} were tested against one another.")
    pairs = _pairs(tested, group.tasks, clusters, options, family)
    board = Board(group.tasks, (), pairs, (), None, group.reason, tuple(notes))
    better = _better(board.over_all, options.confidence)
    values = pd.DataFrame([one.side.scores.mean(axis=0) for one in ordered], index=order, columns=list(group.tasks)).T
    ranks = average_ranks(values)
    contenders = tuple(
        dataclasses.replace(
            one.contender, place=place, ranks=rank_range(name, better, len(order)), average_rank=ranks[name]
        )
        for place, (name, one) in enumerate(zip(order, ordered, strict=True), start=1)
    )
    task_ranks = ranks_over_tasks(values, options.confidence) if len(order) == len(tested) else None
    ties = close_groups(order[: len(tested)], better)
    return dataclasses.replace(board, contenders=contenders, ties=ties, task_ranks=task_ranks)


def _pairs(
    ordered: Sequence[Configuration],
    tasks: Sequence[str],
    clusters: Sequence[ItemClusters],
    options: PairTestOptions,
    family: int | None,
) -> tuple[TestedPair, ...]:
    """Every two candidates on the score, corrected together, and on each task, corrected over tasks and pairs.

    Args:
        family: Pairs that there would be, where not all candidates are given.
    """
    twos = list(itertools.combinations(ordered, 2))
    whole = [difference(one.side, other.side, clusters, options.confidence, options.seed) for one, other in twos]
    over_all = SCORE if len(tasks) > 1 else tasks[0]
    pairs = [
        TestedPair(over_all, one.contender.name, other.contender.name, found)
        for (one, other), found in zip(twos, corrected(whole, family), strict=True)
    ]
    if len(tasks) == 1:
        return tuple(pairs)
    places = [(number, one, other) for number in range(len(tasks)) for one, other in twos]
    single = [
        difference(one.side.on(number), other.side.on(number), [clusters[number]], options.confidence, options.seed)
        for number, one, other in places
    ]
    pairs += [
        TestedPair(tasks[number], one.contender.name, other.contender.name, found)
        for (number, one, other), found in zip(places, corrected(single, family and family * len(tasks)), strict=True)
    ]
    return tuple(pairs)


def _better(pairs: Sequence[TestedPair], confidence: float) -> dict[str, set[str]]:
    """By contender, those that it surely beats."""
    better: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        if pair.difference.is_sure(confidence):
            winner, loser = (pair.one, pair.other) if pair.difference.value > 0 else (pair.other, pair.one)
            better[winner].add(loser)
    return better
