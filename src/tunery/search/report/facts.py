"""What follows from a study's trials: their order, the Pareto front, means over seeds, gaps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from scipy import stats

from tunery.records import Finalist, StudyRecord, TrialRow


def complete(record: StudyRecord) -> list[TrialRow]:
    """Trials that measured every objective, in order of their numbers."""
    rows = sorted(record.trials, key=lambda row: row.number)
    return [row for row in rows if row.state == "complete" and _measured(row, record)]


def _measured(row: TrialRow, record: StudyRecord) -> bool:
    return all(math.isfinite(row.values.get(name, math.nan)) for name in record.objectives)


def best_first(record: StudyRecord) -> list[TrialRow]:
    """Complete trials, the feasible ones first, each group from its best value of the first objective on.

    Those with equal values of it stand in the order of the next objective, and so on.
    """
    return sorted(
        complete(record), key=lambda row: (not row.feasible, losses(row.values, record.objectives), row.number)
    )


def pareto(record: StudyRecord) -> list[int]:
    """Numbers of the feasible complete trials that no other one beats.

    A trial beats another when it is at least as good in every objective and better in one. Trials with equal values do
    not beat each other: all of them stand on the front.

    Args:
        record: A study with one objective or more.

    Returns:
        Trial numbers, from the best value of the first objective on.
    """
    rows = [row for row in best_first(record) if row.feasible]
    found = [losses(row.values, record.objectives) for row in rows]
    return [
        row.number for row, loss in zip(rows, found, strict=True) if not any(_beats(other, loss) for other in found)
    ]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def losses(values: Mapping[str, float], objectives: Mapping[str, str]) -> tuple[float, ...]:
    """Values of the objectives in their order, with the sign that makes less better; infinite where one is missing.

    Compared as tuples, they rank by the first objective, and what is equal in it by the next: of equal ones none comes
    first that another one beats.
    """
    signed = (
        -values.get(name, math.nan) if direction == "maximize" else values.get(name, math.nan)
        for name, direction in objectives.items()
    )
    return tuple(math.inf if math.isnan(value) else value for value in signed)


def is_better(record: StudyRecord, objective: str, one: float, other: float) -> bool:
    """Whether one value of an objective is better than another."""
    return one > other if record.objectives[objective] == "maximize" else one < other


def winner_of(record: StudyRecord) -> Finalist | None:
    """The finalist that won, or None while there is none."""
    return next((one for one in record.finalists if one.trial == record.winner), None)


def finalists_first(record: StudyRecord) -> list[Finalist]:
    """Finalists in the order in which they are shown: by what the winner is chosen by, the winner above its equals."""

    def place(one: Finalist) -> tuple[tuple[float, ...], bool]:
        return losses(means(one, record.objectives), record.objectives), one.trial != record.winner

    return sorted(record.finalists, key=place)


def seeds_of(one: Finalist, objectives: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """The values of each objective, one a seed."""
    first = next(iter(objectives))
    return {first: one.values, **{name: one.further.get(name, ()) for name in objectives if name != first}}


def means(one: Finalist, objectives: Mapping[str, str]) -> dict[str, float]:
    """The mean of each objective over the seeds, NaN where it is not known."""
    return {name: mean(values) for name, values in seeds_of(one, objectives).items()}


def better_scored(record: StudyRecord, side: Callable[[Finalist], Sequence[float]]) -> list[Finalist]:
    """Finalists whose mean score is above the winner's, the best first.

    Args:
        side: Gives the scores of a finalist that are meant: on dev items or on locked ones.
    """
    winner = winner_of(record)
    if winner is None:
        return []
    # As they are shown: nobody is told that 0.4545 is better than 0.4545.
    above = [one for one in record.finalists if round(mean(side(one)), 4) > round(mean(side(winner)), 4)]
    return sorted(above, key=lambda one: -mean(side(one)))


def mean(values: Sequence[float]) -> float:
    """Mean over seeds; NaN where nothing was scored."""
    return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds, with n - 1; NaN for less than two."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def gap(finalist: Finalist) -> float:
    """Mean dev score - mean locked score; NaN until locked items were scored."""
    return mean(finalist.dev) - mean(finalist.locked)


def spread_factors(seeds: int) -> tuple[float, float]:
    """Between which multiples of a standard deviation from so few seeds the true one lies, with 95% confidence.

    Source: (n - 1) s^2 / sigma^2 follows a chi-square distribution with n - 1 degrees of freedom (normal scores).

    Raises:
        ValueError: For less than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds have no standard deviation")
    free = seeds - 1
    low, high = (math.sqrt(free / float(stats.chi2.ppf(share, free))) for share in (0.975, 0.025))
    return low, high
