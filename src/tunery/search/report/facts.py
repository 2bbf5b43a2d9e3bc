"""Derives from a study's trials: their order, the Pareto front, means over seeds, gaps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from tunery.records.studies import Finalist, StudyRecord, TrialRow


def complete(record: StudyRecord) -> list[TrialRow]:
    """Trials with a value for every objective, by number."""
    return [
        row
        for row in record.trials
        if row.state == "complete" and all(math.isfinite(row.values.get(name, math.nan)) for name in record.objectives)
    ]


def best_first(record: StudyRecord) -> list[TrialRow]:
    """Complete trials, feasible ones first, then by the first objective, and by the next one between equal values."""
    return sorted(complete(record), key=lambda row: (not row.feasible, losses(row.values, record.objectives)))


def pareto(record: StudyRecord) -> list[TrialRow]:
    """The feasible complete trials that no other one beats, the best by the first objective first.

    A trial beats another if it is at least as good in every objective and better in one. Trials with equal values do
    not beat each other: all of them are on the front.
    """
    rows = [row for row in best_first(record) if row.feasible]
    found = [losses(row.values, record.objectives) for row in rows]
    return [
        row
        for row, loss in zip(rows, found, strict=True)
        if not any(one != loss and all(a <= b for a, b in zip(one, loss, strict=True)) for one in found)
    ]


def losses(values: Mapping[str, float], objectives: Mapping[str, str]) -> tuple[float, ...]:
    """Values of the objectives in order, negated if more is better, infinite if missing.

    As tuples they sort by the first objective, and by the next one between equal values, so that no trial comes before
    one that beats it.
    """
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return tuple(
        (-known[name] if direction == "maximize" else known[name]) if name in known else math.inf
        for name, direction in objectives.items()
    )


def winner_of(record: StudyRecord) -> Finalist | None:
    """The finalist that won, or None if no winner is known yet."""
    return next((one for one in record.finalists if one.trial == record.winner), None)


def configurations_first(record: StudyRecord) -> list[Finalist]:
    """The configurations of a study with repeats, the best mean first."""
    return sorted(record.configurations, key=lambda one: losses(means(one, record.objectives), record.objectives))


def finalists_first(record: StudyRecord) -> list[Finalist]:
    """Finalists by the means that the winner is chosen by, the winner above its equals."""

    def place(one: Finalist) -> tuple[tuple[float, ...], bool]:
        return losses(means(one, record.objectives), record.objectives), one.trial != record.winner

    return sorted(record.finalists, key=place)


def seeds_of(one: Finalist, objectives: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """The values of each objective, one per seed."""
    first, *others = objectives
    return {first: one.values, **{name: one.further.get(name, ()) for name in others}}


def means(one: Finalist, objectives: Mapping[str, str]) -> dict[str, float]:
    """The mean of each objective over the seeds, NaN if unknown."""
    return {name: mean(values) for name, values in seeds_of(one, objectives).items()}


def mean(values: Sequence[float]) -> float:
    """Mean over seeds; NaN if nothing was scored."""
    return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds, with n - 1; NaN for fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def gap(finalist: Finalist) -> float:
    """Mean dev score - mean locked score; NaN until locked items are scored."""
    return mean(finalist.dev) - mean(finalist.locked)


def base_gap(record: StudyRecord) -> float:
    """The same of the base model; NaN if one of its scores is unknown."""
    return _difference(record.base_dev, record.base_locked)


def references(record: StudyRecord) -> list[tuple[str, float | None, float | None, float]]:
    """What stands below the finalists, with its dev score, locked score and gap: the base, and a parent if any."""
    known = [
        ("the base model", record.base_dev, record.base_locked),
        ("the parent", record.parent_dev, record.parent_locked),
    ]
    return [
        (name, dev, locked, _difference(dev, locked)) for name, dev, locked in known if (dev, locked) != (None, None)
    ]


def _difference(dev: float | None, locked: float | None) -> float:
    return math.nan if dev is None or locked is None else dev - locked


def spread_factors(seeds: int) -> tuple[float, float]:
    """The multiples of a standard deviation from two seeds or more that bound the true one, with 95% confidence.

    Source: (n - 1) s^2 / sigma^2 follows a chi-square distribution with n - 1 degrees of freedom (normal scores).
    """
    assert seeds >= 2
    free = seeds - 1
    low, high = (math.sqrt(free / float(stats.chi2.ppf(share, free))) for share in (0.975, 0.025))
    return low, high
