"""A study as Optuna's plots are given it: numbered as in the report, with short names for settings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunery.records import StudyRecord, TrialRow
from tunery.reporting.figures import DPI
from tunery.reporting.text import short_names
from tunery.search.report.facts import complete

Space = Mapping[str, BaseDistribution]


def space_of(study: optuna.Study) -> Space:
    """The distribution of every searched key, in the order in which keys were first drawn."""
    space: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, distribution in trial.distributions.items():
            space.setdefault(key, distribution)
    return space


def shown_study(record: StudyRecord, space: Space, objectives: Sequence[str]) -> optuna.Study:
    """A study in memory with the record's complete trials, numbered as the record numbers them.

    The stored study has more: attempts of workers that died, trials that two workers asked for at once. Its numbers
    differ from those of the report.

    Args:
        record: Gives trials and values.
        space: The distributions that settings were drawn from.
        objectives: Those that the new study has; with one, Optuna also draws the best value so far.
    """
    study = optuna.create_study(directions=[StudyDirection[record.objectives[name].upper()] for name in objectives])
    study.set_metric_names(list(objectives))
    rows = {row.number: row for row in complete(record)}
    for number in range(max(rows, default=-1) + 1):
        row = rows.get(number)
        study.add_trial(_as_trial(row, record, space, objectives) if row else create_trial(state=TrialState.FAIL))
    return study


def _as_trial(row: TrialRow, record: StudyRecord, space: Space, objectives: Sequence[str]) -> FrozenTrial:
    labels = short_names(space)
    # Only the project's own settings can be outside of their range; Optuna would refuse the trial for them.
    drawn = {key: row.settings[key] for key in space if key in row.settings and _holds(space[key], row.settings[key])}
    return create_trial(
        values=[row.values[name] for name in objectives],
        params={labels[key]: value for key, value in drawn.items()},
        distributions={labels[key]: space[key] for key in drawn},
        user_attrs={"settings": row.name},
        # Optuna's plots tell feasible from infeasible trials by it.
        constraints={"not met": 0.0 if row.feasible else 1.0} if record.constraints else None,
    )


def _holds(distribution: BaseDistribution, value: object) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(distribution, (IntDistribution, FloatDistribution)) and isinstance(value, (int, float)):
        return distribution.low <= value <= distribution.high
    return False


@contextmanager
def drawing() -> Iterator[None]:
    """Let Optuna draw without leaving a trace.

    It logs that a study was made in memory, warns of what is experimental, opens pyplot's figures, and changes
    pyplot's style for good. No display is needed.
    """
    level, backend, figures = optuna.logging.get_verbosity(), mpl.get_backend(), plt.get_fignums()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings(), mpl.rc_context({"figure.constrained_layout.use": True, "figure.dpi": DPI}):
            warnings.simplefilter("ignore")
            yield
    finally:
        for number in set(plt.get_fignums()) - set(figures):
            plt.close(number)
        plt.switch_backend(backend)
        optuna.logging.set_verbosity(level)
