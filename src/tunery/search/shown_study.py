"""The study that figures are drawn from: the trials that count, under their own numbers, with short names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunery.ranking.setting_plots import Searched
from tunery.ranking.study_facts import complete
from tunery.records import StudyRecord, TrialRow
from tunery.reporting.text import setting, short_names

Space = Mapping[str, BaseDistribution]


def space_of(study: optuna.Study) -> Space:
    """The distribution of every searched key, in the order in which keys were drawn first."""
    space: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, distribution in trial.distributions.items():
            space.setdefault(key, distribution)
    return space


def searched_in(space: Space) -> list[Searched]:
    """Every searched key as an axis."""
    labels = short_names(space)
    return [
        Searched(key, labels[key], bool(getattr(one, "log", False)), isinstance(one, IntDistribution), _choices(one))
        for key, one in space.items()
    ]


def _choices(distribution: BaseDistribution) -> tuple[str, ...] | None:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(setting(choice) for choice in distribution.choices)
    return None


def shown_study(record: StudyRecord, space: Space, objectives: Sequence[str]) -> optuna.Study:
    """A study in memory with the record's complete trials, numbered as the record numbers them.

    The real study has more: attempts of workers that died, trials that two workers asked for at once. In it, a trial's
    number would be another than in the report.

    Args:
        objectives: Those that the trials of the new study have values for; with one, Optuna also draws the best so far.
    """
    study = optuna.create_study(directions=[StudyDirection[record.objectives[name].upper()] for name in objectives])
    study.set_metric_names(list(objectives))
    rows = {row.number: row for row in complete(record)}
    for number in range(max(rows, default=-1) + 1):
        row = rows.get(number)
        study.add_trial(_as_trial(row, space, objectives) if row else create_trial(state=TrialState.FAIL))
    return study


def _as_trial(row: TrialRow, space: Space, objectives: Sequence[str]) -> FrozenTrial:
    labels = short_names(space)
    # Settings outside of their range can only be the project's own; Optuna would refuse the trial for them.
    drawn = {key: row.settings[key] for key in space if key in row.settings and _holds(space[key], row.settings[key])}
    return create_trial(
        values=[row.values[name] for name in objectives],
        params={labels[key]: value for key, value in drawn.items()},
        distributions={labels[key]: space[key] for key in drawn},
        user_attrs={"settings": row.name},
        constraints=None if row.feasible else {"not met": 1.0},
    )


def _holds(distribution: BaseDistribution, value: object) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(distribution, (IntDistribution, FloatDistribution)) and isinstance(value, (int, float)):
        return distribution.low <= value <= distribution.high
    return False


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says that a study was made in memory, and warns of what is experimental: neither is for the user."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
