"""What follows from a study's trials: their order, the Pareto front, means over seeds, gaps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy import stats

from tunery.records import Finalist, StudyRecord, TrialRow


def complete(record: StudyRecord) -> list[TrialRow]:
    """Trials that measured every objective, in order of their numbers."""
    rows = sorted(record.trials, key=lambda row: row.number)
    return [row for row in rows if row.state == "complete" and _measured(row, record)]


def _measured(row: TrialRow, record: StudyRecord) -> bool:
    return all(math.isfinite(row.values.get(name, math.nan)) for name in record.objectives)


def best_first(record: StudyRecord) -> list[TrialRow]:
    """Complete trials, the feasible ones first, each group from its best value of the first objective on."""
    return sorted(complete(record), key=lambda row: (not row.feasible, _loss(row, record)[0], row.number))


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
    losses = [_loss(row, record) for row in rows]
    return [
        row.number for row, loss in zip(rows, losses, strict=True) if not any(_beats(other, loss) for other in losses)
    ]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _loss(row: TrialRow, record: StudyRecord) -> tuple[float, ...]:
    """Objectives with the sign that makes less better."""
    return tuple(
        -row.values[name] if direction == "maximize" else row.values[name]
        for name, direction in record.objectives.items()
    )


def is_better(record: StudyRecord, objective: str, one: float, other: float) -> bool:
    """Whether one value of an objective is better than another."""
    return one > other if record.objectives[objective] == "maximize" else one < other


def winner_of(record: StudyRecord) -> Finalist | None:
    """The finalist that won, or None while there is none."""
    return next((one for one in record.finalists if one.trial == record.winner), None)


def finalists_first(record: StudyRecord) -> list[Finalist]:
    """Finalists in the order in which they are shown: by what the winner is chosen by, the winner above its equals."""
    return sorted(record.finalists, key=lambda one: (-_worth(one, record), one.trial != record.winner))


def _worth(one: Finalist, record: StudyRecord) -> float:
    """The mean over its seeds, greater being better; the dev score where objectives were not kept."""
    minimized = next(iter(record.objectives.values()), "maximize") == "minimize"
    value = mean(one.values) if one.values else mean(one.dev)
    return _or_worst(-value if one.values and minimized else value)


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value


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
