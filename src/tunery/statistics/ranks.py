"""From pairwise tests to places: corrections, ranges of ranks, groups that are too close, and ranks over datasets."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tunery.records.scores import Difference

# Below, the chi-square of Friedman's test is a poor guide (benchmarks/false_wins.py measures it at exactly this many).
FEWEST_TASKS, FEWEST_CONTENDERS = 6, 3


def corrected(differences: Sequence[Difference], family: int | None = None) -> list[Difference]:
    """The same differences with `adjusted`, their p-value after Holm's correction for all that were tested.

    Args:
        family: How many comparisons could have been looked at, where only some were tested because they seemed
            promising; p is then multiplied by this number (Bonferroni), which holds whatever was left out.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    tested = [place for place, one in enumerate(differences) if not math.isnan(one.p_value)]
    if not tested:
        return list(differences)
    p = np.array([differences[place].p_value for place in tested])
    adjusted = multipletests(p, method="holm")[1] if family is None else np.minimum(p * family, 1.0)
    known = dict(zip(tested, map(float, adjusted), strict=True))
    return [dataclasses.replace(one, adjusted=known.get(place, math.nan)) for place, one in enumerate(differences)]


def rank_range(name: str, better: Mapping[str, Collection[str]], contenders: int) -> tuple[int, int]:
    """Best and worst rank that the tests leave open.

    Args:
        better: By contender, those that it surely beats, the errors of all pairs held together.
        contenders: How many there are.

    Source: Mogstad, Romano, Shaikh, Wilhelm, Inference for Ranks, Review of Economic Studies 2024, section 3.
    """
    beaten_by = sum(name in beaten for beaten in better.values())
    return 1 + beaten_by, contenders - len(better.get(name, ()))


def close_groups(order: Sequence[str], better: Mapping[str, Collection[str]]) -> tuple[tuple[str, ...], ...]:
    """The longest stretches of neighbours in which nobody surely beats anybody, from two on.

    Args:
        order: Names from the best place on.
        better: By contender, those that it surely beats.
    """
    place = {name: number for number, name in enumerate(order)}
    starts = [0] * len(order)  # by last member: where its stretch can begin at the earliest
    for name, beaten in better.items():
        for other in beaten:
            first, last = sorted((place[name], place[other]))
            starts[last] = max(starts[last], first + 1)
    reached = list(itertools.accumulate(starts, max))
    last_of = {start: end for end, start in enumerate(reached)}
    return tuple(tuple(order[start : end + 1]) for start, end in last_of.items() if end > start)


def average_ranks(values: pd.DataFrame) -> dict[str, float]:
    """Mean rank of each contender over tasks, 1 being best and ties sharing; `values` has a row a task."""
    ranks = values.rank(axis=1, ascending=False).mean()
    return {str(name): float(rank) for name, rank in ranks.items()}


def ranks_over_tasks(values: pd.DataFrame, confidence: float) -> TaskRanks | None:
    """Friedman's test over tasks, then Nemenyi's for each two contenders.

    Args:
        values: A row a task, a column a contender, greater being better.

    Returns:
        None where there are too few tasks or contenders for the tests to mean anything.

    Source: Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
    """
    tasks, contenders = values.shape
    if tasks < FEWEST_TASKS or contenders < FEWEST_CONTENDERS or (values.nunique(axis=1) == 1).all():
        return None
    import scikit_posthocs as posthocs  # its own imports take a second

    friedman = float(stats.friedmanchisquare(*(values[name] for name in values)).pvalue)
    ranks = average_ranks(values)
    # The names of its rows and columns are the order of ours; of equal values all get the mean rank.
    table = posthocs.posthoc_nemenyi_friedman(values.to_numpy()).to_numpy()
    names = list(ranks)
    nemenyi = {
        (names[one], names[other]): float(table[one, other])
        for one, other in itertools.permutations(range(contenders), 2)
    }
    return TaskRanks(tasks, friedman, ranks, critical_difference(contenders, tasks, confidence), nemenyi)


def critical_difference(contenders: int, tasks: int, confidence: float) -> float:
    """How far two average ranks must lie apart: q * sqrt(k (k + 1) / (6 N)), k contenders on N tasks.

    q is the studentized range statistic over sqrt(2).
    """
    q = float(stats.studentized_range.ppf(confidence, contenders, np.inf)) / math.sqrt(2)
    return q * math.sqrt(contenders * (contenders + 1) / (6 * tasks))


@dataclass(frozen=True)
class TaskRanks:
    """Do contenders differ over many tasks, each task being one observation? (Demšar 2006)"""

    tasks: int
    friedman_p: float  # p-value of the Friedman test
    average_ranks: Mapping[str, float]  # by contender; 1 is best
    critical_difference: float  # average ranks that differ by less may differ by chance (Nemenyi)
    nemenyi_p: Mapping[tuple[str, str], float]  # p-value of each two contenders, keyed by their names in both orders
