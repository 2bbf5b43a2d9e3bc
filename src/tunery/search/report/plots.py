"""A study's figures, each twice: interactive for plots/study.html, and as a picture."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunery.records.studies import StudyRecord, TrialRow
from tunery.reporting.figures import DPI
from tunery.reporting.text import short_names
from tunery.search.report import interactive, pictures
from tunery.search.report.facts import complete, pareto
from tunery.search.report.loss_and_score import MOST_GROUPS, loss_groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

_LOG = logging.getLogger(__name__)
_FEWEST_FOR_IMPORTANCES = 6
# Without these, plotly 7 shows a button that sends the figure to plotly's own server.
_PRIVATE = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False, "responsive": True}
Space = Mapping[str, BaseDistribution]


class StudyFigure(NamedTuple):
    """One figure twice: to explore, and to print."""

    interactive: Interactive
    picture: Figure


def study_figures(study: Study, record: StudyRecord) -> dict[str, StudyFigure]:
    """Every figure that the trials suffice for, by the name of its file.

    `history`, `importances` and `slice` for the first objective, and again with its name for each further one
    (`history-train_seconds`); `parallel`; `pareto` with two or three objectives; `dev_locked` when finalists were
    scored on locked items; `score_against_loss` when two trials have a score and a loss over the same tokens.

    Args:
        study: Gives the ranges and scales that settings were drawn from.
        record: Gives trials, values and finalists.
    """
    space, objectives = space_of(study), list(record.objectives)
    makers = []
    for place, objective in enumerate(objectives):
        suffix = f"-{objective.replace('/', '_')}" if place else ""
        for name, make in {"history": _history, "importances": _importances, "slice": _slice}.items():
            makers.append((f"{name}{suffix}", make, [objective]))
    once = {
        "parallel": _parallel, "pareto": _pareto, "dev_locked": _dev_locked, "score_against_loss": _score_against_loss,
    }  # fmt: skip
    for name, make in once.items():
        makers.append((name, make, objectives))
    figures = {}
    for name, make, shown in makers:
        try:
            with _drawing():
                figure = make(shown_study(record, space, shown), record, shown[0])
            figures[name] = figure
        except Exception as error:  # noqa: BLE001 - hours of trials must not be lost to a picture
            _LOG.warning("the figure %r could not be drawn: %s: %s", name, type(error).__name__, error)
    return {name: figure for name, figure in figures.items() if figure is not None}


@contextmanager
def _drawing() -> Iterator[None]:
    """Let Optuna draw one figure without leaving a trace.

    Optuna logs that a study was made in memory, warns of what is experimental, opens pyplot's figures, and changes
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


def _history(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    if not complete(record):
        return None
    return StudyFigure(interactive.history(study, record, objective), pictures.history(study, record, objective))


def _importances(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    """Shares of the objective's variance, of the settings that every trial has: fANOVA knows no conditional ones."""
    rows = complete(record)
    settings = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    # One setting alone explains all of it: its bar would say nothing.
    if len(rows) < _FEWEST_FOR_IMPORTANCES or len(settings) < 2 or len({row.values[objective] for row in rows}) == 1:
        return None
    # Not Optuna's default, PED-ANOVA: where a rank of four choices decided alone, it named another setting in 12 of 12
    # studies of 20 and of 40 trials by TPE; fANOVA named the rank in all of them.
    evaluator = FanovaImportanceEvaluator(seed=0)
    if not sum(get_param_importances(study, evaluator=evaluator).values()) > 0:
        return None  # every trial had the same settings
    given = (study, objective, evaluator, f"What mattered for {objective} (fANOVA, {len(rows)} complete trials)")
    return StudyFigure(interactive.importances(*given), pictures.importances(*given))


def _slice(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    if not any(trial.params for trial in study.get_trials(deepcopy=False)):
        return None
    return StudyFigure(interactive.slices(study, objective), pictures.slices(study, objective))


def _parallel(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    trials = study.get_trials(deepcopy=False)
    drawn = Counter(name for row in complete(record) if row.feasible for name in trials[row.number].params)
    if sum(times > 1 for times in drawn.values()) < 2:
        return None  # one setting, or one trial
    by = f"better by {objective}" if len(record.objectives) == 1 else "nearer to the Pareto front"
    given = (study, objective, f"Settings of each trial; the darker, the {by}")
    return StudyFigure(interactive.parallel(*given), pictures.parallel(*given))


def _pareto(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    if len(record.objectives) not in (2, 3) or not pareto(record):
        return None
    return StudyFigure(interactive.front(study, record), pictures.front(study, record))


def _dev_locked(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    marks = pictures.finalist_marks(record)
    return StudyFigure(interactive.dev_locked(record, marks), pictures.dev_locked(record, marks)) if marks else None


def _score_against_loss(study: Study, record: StudyRecord, objective: str) -> StudyFigure | None:
    groups = loss_groups(record)[:MOST_GROUPS]
    return StudyFigure(interactive.score_against_loss(groups), pictures.score_against_loss(groups)) if groups else None


def study_page(figures: Mapping[str, StudyFigure], title: str) -> str:
    """All interactive figures on one page that needs no network, about 5 MB in all: plotly is in it."""
    parts = [
        one.interactive.to_html(include_plotlyjs=place == 0, include_mathjax=False, full_html=False, config=_PRIVATE)
        for place, one in enumerate(figures.values())
    ]
    style = "<style>body{font-family:sans-serif;margin:1.5em}</style>"
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>{style}'
    return f"<!doctype html><html><head>{head}</head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"


def space_of(study: Study) -> Space:
    """The distribution of every searched key, in the order in which keys were first drawn."""
    space: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, distribution in trial.distributions.items():
            space.setdefault(key, distribution)
    return space


def shown_study(record: StudyRecord, space: Space, objectives: Sequence[str]) -> Study:
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
