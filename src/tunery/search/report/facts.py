"""Derives from a study's trials: their order, the Pareto front, means over seeds, gaps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from scipy import stats

from tunery.records import Finalist, StudyRecord, TrialRow


def complete(record: StudyRecord) -> list[TrialRow]:
    """Trials with a value for every objective, by number."""
    rows = sorted(record.trials, key=lambda row: row.number)
    return [row for row in rows if row.state == "complete" and _measured(row, record)]


def _measured(row: TrialRow, record: StudyRecord) -> bool:
    return all(math.isfinite(row.values.get(name, math.nan)) for name in record.objectives)


def best_first(record: StudyRecord) -> list[TrialRow]:
    """Complete trials, feasible ones first, then by the first objective, and by the next one between equal values."""
    return sorted(
        complete(record), key=lambda row: (not row.feasible, losses(row.values, record.objectives), row.number)
    )


def pareto(record: StudyRecord) -> list[int]:
    """Numbers of the feasible complete trials that no other trial beats, the best by the first objective first.

    A trial beats another if it is at least as good in every objective and better in one. Trials with equal values do
    not beat each other: all of them are on the front.
    """
    rows = [row for row in best_first(record) if row.feasible]
    found = [losses(row.values, record.objectives) for row in rows]
    return [
        row.number for row, loss in zip(rows, found, strict=True) if not any(_beats(other, loss) for other in found)
    ]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def losses(values: Mapping[str, float], objectives: Mapping[str, str]) -> tuple[float, ...]:
    """Values of the objectives in order, negated if more is better, infinite if missing.

    As tuples they sort by the first objective, and by the next one between equal values, so that no trial comes before
    one that beats it.
    """
    signed = (
        -values.get(name, math.nan) if direction == "maximize" else values.get(name, math.nan)
        for name, direction in objectives.items()
    )
    return tuple(math.inf if math.isnan(value) else value for value in signed)


def winner_of(record: StudyRecord) -> Finalist | None:
    """The finalist that won, or None if no winner is known yet."""
    return next((one for one in record.finalists if one.trial == record.winner), None)


def finalists_first(record: StudyRecord) -> list[Finalist]:
    """Finalists by the means that the winner is chosen by, the winner above its equals."""

    def place(one: Finalist) -> tuple[tuple[float, ...], bool]:
        return losses(means(one, record.objectives), record.objectives), one.trial != record.winner

    return sorted(record.finalists, key=place)


def seeds_of(one: Finalist, objectives: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """The values of each objective, one per seed."""
    first = next(iter(objectives))
    return {first: one.values, **{name: one.further.get(name, ()) for name in objectives if name != first}}


def means(one: Finalist, objectives: Mapping[str, str]) -> dict[str, float]:
    """The mean of each objective over the seeds, NaN if unknown."""
    return {name: mean(values) for name, values in seeds_of(one, objectives).items()}


def better_scored(record: StudyRecord, side: Callable[[Finalist], Sequence[float]]) -> list[Finalist]:
    """Finalists whose mean score is above the winner's, the best first.

    Args:
        side: Returns a finalist's scores to compare: on dev items or on locked ones.
    """
    winner = winner_of(record)
    if winner is None:
        return []
    # Rounded as they are shown: a report must not say that 0.4545 is better than 0.4545.
    above = [one for one in record.finalists if round(mean(side(one)), 4) > round(mean(side(winner)), 4)]
    return sorted(above, key=lambda one: -mean(side(one)))


def mean(values: Sequence[float]) -> float:
    """Mean over seeds; NaN if nothing was scored."""
    return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds, with n - 1; NaN for fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def gap(finalist: Finalist) -> float:
    """Mean dev score - mean locked score; NaN until locked items are scored."""
    return mean(finalist.dev) - mean(finalist.locked)


def spread_factors(seeds: int) -> tuple[float, float]:
    """The multiples of a standard deviation from few seeds that bound the true one, with 95% confidence.

    Source: (n - 1) s^2 / sigma^2 follows a chi-square distribution with n - 1 degrees of freedom (normal scores).

    Raises:
        ValueError: For fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds have no standard deviation")
    free = seeds - 1
    low, high = (math.sqrt(free / float(stats.chi2.ppf(share, free))) for share in (0.975, 0.025))
    return low, high
