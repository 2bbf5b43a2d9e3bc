"""Many runs -> a leaderboard: who may be compared, how sure each difference is, and which places that leaves open."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from tunery.comparison.contenders import Configuration, PairTestOptions, configurations
from tunery.comparison.entries import RunEntry, configuration_of
from tunery.comparison.groups import Group, group_runs
from tunery.comparison.records import Board, Comparison, TestedPair
from tunery.errors import Fault, InputError
from tunery.records.scores import SCORE
from tunery.reporting.text import counted
from tunery.statistics.ranks import average_ranks, close_groups, corrected, rank_range, ranks_over_tasks
from tunery.statistics.significance import difference
from tunery.statistics.variance import ItemClusters, ScoreMatrix

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
        tested: How many of a board's best configurations are tested against one another, at most.

    Raises:
        InputError: If no run can be ranked, there is no such confidence, or fewer than two are to be tested.
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
    names = _named([run for group in groups for run in group.runs])
    boards = tuple(_board(group, names, PairTestOptions(confidence, seed), tested) for group in groups)
    return Comparison(boards, tuple(unranked), confidence)


def _named(runs: Sequence[RunEntry]) -> dict[tuple[str, ...], str]:
    """A name for each configuration: that of its runs, or what their names begin with; told apart where equal."""
    rows: dict[tuple[str, ...], list[RunEntry]] = defaultdict(list)
    for run in runs:
        rows[configuration_of(run)].append(run)
    names = {key: _common_name([run.name for run in members]) for key, members in rows.items()}
    facts = {key: (run.trained_on, run.method, run.version or "", run.run_id[:8]) for key, (run, *_) in rows.items()}
    for place in range(4):  # each fact in turn, where names are still equal
        told: dict[str, set[str]] = defaultdict(set)
        for key, name in names.items():
            told[name].add(facts[key][place])
        for key, name in names.items():
            if len(told[name]) > 1 and facts[key][place]:
                names[key] = f"{name} ({facts[key][place]})"
    return names


def _common_name(names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return names[0] or "unnamed"
    # Repeats of one configuration are trials of several numbers: "3: rank=8, seed 0" and "13: rank=8, seed 1".
    names = [re.sub(r"^\d+: ", "", name) for name in names]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    if any(name[len(shared) :][:1].isalnum() for name in names):
        shared = re.sub(r"\w+$", "", shared)  # "lora, seed 1" and "lora, seed 12" do not share a word's half
    shared = re.sub(r"[-\s_/.,·:(=#]*(seed)?[-\s_/.,·:(=#]*$", "", shared)
    return shared if len(shared) > 2 else f"{names[0]} and {counted(len(names) - 1, 'more seed')}"


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
    better: dict[str, set[str]] = defaultdict(set)  # by contender, those that it surely beats
    for pair in board.over_all:
        if pair.difference.is_sure(options.confidence):
            winner, loser = (pair.one, pair.other) if pair.difference.value > 0 else (pair.other, pair.one)
            better[winner].add(loser)
    values = pd.DataFrame([one.side.scores.mean(axis=0) for one in ordered], index=order, columns=list(group.tasks)).T
    ranks = average_ranks(values)
    contenders = tuple(
        replace(one.contender, place=place, ranks=rank_range(name, better, len(order)), average_rank=ranks[name])
        for place, (name, one) in enumerate(zip(order, ordered, strict=True), start=1)
    )
    task_ranks = ranks_over_tasks(values, options.confidence) if len(order) == len(tested) else None
    ties = close_groups(order[: len(tested)], better)
    return replace(board, contenders=contenders, ties=ties, task_ranks=task_ranks)


def _pairs(
    ordered: Sequence[Configuration],
    tasks: Sequence[str],
    clusters: Sequence[ItemClusters],
    options: PairTestOptions,
    family: int | None,  # pairs that there would be, where not all candidates are given
) -> tuple[TestedPair, ...]:
    """Every two candidates on the score, corrected together, and on each task, corrected over tasks and pairs."""
    names = [one.contender.name for one in ordered]

    def tested(
        parts: Sequence[tuple[str, list[ScoreMatrix], Sequence[ItemClusters]]], family: int | None
    ) -> list[TestedPair]:
        twos = [(*part, *two) for part in parts for two in itertools.combinations(range(len(ordered)), 2)]
        found = [
            difference(sides[one], sides[other], layout, options.confidence, options.seed)
            for _, sides, layout, one, other in twos
        ]
        return [
            TestedPair(task, names[one], names[other], pair)
            for (task, _, _, one, other), pair in zip(twos, corrected(found, family), strict=True)
        ]

    over_all = tested([(SCORE if len(tasks) > 1 else tasks[0], [one.side for one in ordered], clusters)], family)
    single = [
        (task, [one.side.on(number) for one in ordered], [clusters[number]])
        for number, task in enumerate(tasks)
        if len(tasks) > 1
    ]
    return (*over_all, *tested(single, family and family * len(tasks)))
