"""The trials of the search itself: settings are drawn, one configuration is trained, its dev scores are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from tunery.config.project import Project
from tunery.errors import ConfigError, Infeasible
from tunery.pipeline.trial import TrialPlan, run_trial
from tunery.search import slots
from tunery.search.memory import memory_limit
from tunery.search.objectives import check_metrics, constraint_values, objective_values
from tunery.search.rows import NAME, SETTINGS
from tunery.search.space import OWN_SLOT, draw, name_of, with_settings
from tunery.search.worker import TrialWatch, Worker, deadline


def run_search_trial(worker: Worker, study: optuna.Study, trial: optuna.Trial) -> list[float]:
    """Draw a trial's settings and run them; values of the objectives, in their order."""
    settings = _drawn(trial, worker.project)
    name = name_of(settings, worker.project)
    trial.set_user_attr(SETTINGS, settings)
    trial.set_user_attr(NAME, name)
    project = worker.project if trial.user_attrs[slots.SLOT] == OWN_SLOT else laid(worker.project, settings)
    metrics = run(worker, study, trial, project, f"{trial.user_attrs[slots.SLOT]}: {name}", prune=True)
    search = worker.project.search
    check_metrics(worker.project, metrics)
    for key, excess in constraint_values(metrics, search.constraints).items():
        trial.set_constraint(key, excess)
    return objective_values(metrics, search.objectives)


def run(
    worker: Worker,
    study: optuna.Study,
    trial: optuna.Trial,
    project: Project,
    name: str,
    *,
    prune: bool,
    tags: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Run a configuration, or go on with it, in the trial's one MLflow run; its metrics.

    Args:
        worker: Whose resident parts are used.
        study: The trial's.
        trial: Told the run as soon as it is there, and the metrics before MLflow knows that it has finished.
        project: With the trial's settings.
        name: Of its run.
        prune: Whether the pruner may end it.
        tags: Of its run.
    """
    if slots.METRICS in trial.user_attrs:  # whoever ran it died after its last step
        _finish_run(worker, trial.user_attrs[slots.RUN_ID])
        return dict(trial.user_attrs[slots.METRICS])
    slot = trial.user_attrs[slots.SLOT]
    worker.progress.trial_began(trial, slot, name, worker.number)
    plan = TrialPlan(
        project=project,
        parent=worker.parent,
        name=name,
        tags={"tunery.study": study.study_name, "tunery.trial": str(slot), **(tags or {})},
        resume=_run_of(worker, study, trial),
        memory_bytes=memory_limit(project),
        declared=slot == OWN_SLOT,
        report=worker.steps(trial, project, prune=prune),
        began=lambda run_id: trial.set_user_attr(slots.RUN_ID, run_id),
        ended=lambda metrics: trial.set_user_attr(slots.METRICS, metrics),
    )
    with deadline(worker.project.search.timeout_seconds):
        return run_trial(plan, worker.resident, worker.store, TrialWatch(worker.progress, slot))


def _drawn(trial: optuna.Trial, project: Project) -> dict[str, Any]:
    try:
        return draw(trial, project)
    except ConfigError as error:  # an expression that has no value for what was drawn
        raise Infeasible(str(error)) from error


def laid(project: Project, settings: Mapping[str, Any]) -> Project:
    """The project with a trial's settings; a combination that is not allowed makes the trial infeasible."""
    try:
        return with_settings(project, settings)
    except ConfigError as error:
        raise Infeasible(str(error)) from error


def _run_of(worker: Worker, study: optuna.Study, trial: optuna.Trial) -> str | None:
    """The run that an earlier attempt began, if it can be gone on with."""
    from tunery.tracking.children import unfinished_child

    known = trial.user_attrs.get(slots.RUN_ID)
    if known is None and not slots.was_tried(trial):
        return None
    return unfinished_child(worker.store, worker.parent, known, study.study_name, str(trial.user_attrs[slots.SLOT]))


def _finish_run(worker: Worker, run_id: str) -> None:
    from tunery.tracking.children import finish_child

    finish_child(worker.store, run_id)
