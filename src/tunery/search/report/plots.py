"""A study's figures, each twice: interactive for plots/study.html, and as a picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from tunery.records import StudyRecord
from tunery.search.report import finalists_plot, interactive, pictures
from tunery.search.report.facts import complete, pareto
from tunery.search.report.shown_study import Space, drawing, shown_study, space_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

_LOG = logging.getLogger(__name__)
_FEWEST_FOR_IMPORTANCES = 6


@dataclass(frozen=True)
class StudyFigure:
    """One figure twice: to explore, and to print."""

    interactive: Interactive
    picture: Figure


def study_figures(study: optuna.Study, record: StudyRecord) -> dict[str, StudyFigure]:
    """Every figure that the trials suffice for, by the name of its file.

    `history`, `importances` and `slice` for the first objective, and again with its name for each further one
    (`history-train_seconds`); `parallel`; `pareto` with two or three objectives; `dev_locked` when finalists were
    scored on locked items.

    Args:
        study: Gives the ranges and scales that settings were drawn from.
        record: Gives trials, values and finalists.
    """
    space = space_of(study)
    makers: dict[str, Callable[[], StudyFigure | None]] = {}
    for place, objective in enumerate(record.objectives):
        suffix = f"-{objective.replace('/', '_')}" if place else ""
        makers[f"history{suffix}"] = partial(_history, record, space, objective)
        makers[f"importances{suffix}"] = partial(_importances, record, space, objective)
        makers[f"slice{suffix}"] = partial(_slice, record, space, objective)
    makers["parallel"] = partial(_parallel, record, space)
    makers["pareto"] = partial(_pareto, record, space)
    makers["dev_locked"] = partial(_dev_locked, record)
    drawn = {name: _try(name, make) for name, make in makers.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def study_page(figures: Mapping[str, StudyFigure], title: str) -> str:
    """All interactive figures on one page that needs no network."""
    return interactive.page([one.interactive for one in figures.values()], title)


def _try(name: str, make: Callable[[], StudyFigure | None]) -> StudyFigure | None:
    try:
        with drawing():
            return make()
    except Exception as error:  # noqa: BLE001 - hours of trials must not be lost to a picture
        _LOG.warning("the figure %r could not be drawn: %s: %s", name, type(error).__name__, error)
        return None


def _history(record: StudyRecord, space: Space, objective: str) -> StudyFigure | None:
    if not complete(record):
        return None
    given = (shown_study(record, space, [objective]), record, objective)
    return StudyFigure(interactive.history(*given), pictures.history(*given))


def _importances(record: StudyRecord, space: Space, objective: str) -> StudyFigure | None:
    """Shares of the objective's variance, of the settings that every trial has: fANOVA knows no conditional ones."""
    rows = complete(record)
    if len(rows) < _FEWEST_FOR_IMPORTANCES or not space or len({row.values[objective] for row in rows}) == 1:
        return None
    study = shown_study(record, space, [objective])
    # Not Optuna's default, PED-ANOVA: where a rank of four choices decided alone, it named another setting in 12 of 12
    # studies of 20 and of 40 trials by TPE; fANOVA named the rank in all of them.
    evaluator = FanovaImportanceEvaluator(seed=0)
    if not sum(get_param_importances(study, evaluator=evaluator).values()) > 0:
        return None  # every trial had the same settings
    given = (study, objective, evaluator, f"What mattered for {objective} (fANOVA, {len(rows)} complete trials)")
    return StudyFigure(interactive.importances(*given), pictures.importances(*given))


def _slice(record: StudyRecord, space: Space, objective: str) -> StudyFigure | None:
    study = shown_study(record, space, [objective])
    if not any(trial.params for trial in study.trials):
        return None
    return StudyFigure(interactive.slices(study, objective), pictures.slices(study, objective))


def _parallel(record: StudyRecord, space: Space) -> StudyFigure | None:
    rows = [row for row in complete(record) if row.feasible]
    if sum(sum(key in row.settings for row in rows) > 1 for key in space) < 2:
        return None  # one setting, or one trial
    study = shown_study(record, space, list(record.objectives))
    by = f"better by {next(iter(record.objectives))}" if len(record.objectives) == 1 else "nearer to the Pareto front"
    given = (study, record, f"Settings of each trial; the darker, the {by}")
    return StudyFigure(interactive.parallel(*given), pictures.parallel(*given))


def _pareto(record: StudyRecord, space: Space) -> StudyFigure | None:
    if len(record.objectives) not in (2, 3) or not pareto(record):
        return None
    study = shown_study(record, space, list(record.objectives))
    return StudyFigure(interactive.front(study, record), pictures.front(study, record))


def _dev_locked(record: StudyRecord) -> StudyFigure | None:
    if not finalists_plot.scored_finalists(record):
        return None
    return StudyFigure(finalists_plot.interactive(record), finalists_plot.picture(record))
