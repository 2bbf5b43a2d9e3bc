"""The trials of the search itself: draw settings, train one configuration, return its dev scores."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import optuna

from tunery.config.project import Project
from tunery.errors import ConfigError, Infeasible, Pruned, TaskError
from tunery.records import StepMetrics
from tunery.runs.observer import Observer
from tunery.runs.trial import TrialPlan, refuse_trial, run_trial
from tunery.runs.workdir import WorkFolder
from tunery.search.deadline import deadline
from tunery.search.objectives import check_metrics, check_task_metrics, constraint_values, objective_values
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY, Settings, draw, name_of, with_settings
from tunery.search.study import queue
from tunery.search.study.progress import StudyProgress
from tunery.search.study.rows import NAME, SETTINGS
from tunery.search.worker import RepeatedSettings, Worker

# What does not depend on the moment: the same settings would end so again.
_NEVER_FIT = ("infeasible", "oom")


def run_search_trial(worker: Worker, study: optuna.Study, trial: optuna.Trial) -> list[float]:
    """Draw a trial's settings and run them; values of the objectives, in their order."""
    try:
        settings = _draw(study, trial, worker.project)
        own = trial.user_attrs[QUEUE_KEY] == OWN_TRIAL
        project = worker.project if own else trial_project(worker.project, settings)
    except Infeasible as error:
        _refuse(worker, study, trial, error)
    with suppress(TaskError):  # the trial meets it again, and its run reports it
        check_task_metrics(worker.project, worker.resident.tasks(worker.project).higher_is_better)
    metrics = run(worker, study, trial, project, _run_name(trial), prune=True)
    search = worker.project.search
    check_metrics(worker.project, metrics)
    for key, excess in constraint_values(metrics, search.constraints).items():
        trial.set_constraint(key, excess)
    return objective_values(metrics, search.objectives)


def _draw(study: optuna.Study, trial: optuna.Trial, project: Project) -> Settings:
    try:
        settings = draw(trial, project)
    except ConfigError as error:  # an expression that has no value for what was drawn
        trial.set_user_attr(NAME, name_of(trial.params, project))
        raise Infeasible(str(error)) from error
    trial.set_user_attr(SETTINGS, settings)
    trial.set_user_attr(NAME, name_of(settings, project))
    if queue.RUN_ID not in trial.user_attrs:
        _require_new(study, trial, settings)
    return settings


def _require_new(study: optuna.Study, trial: optuna.Trial, settings: Settings) -> None:
    """Do not begin settings that are known not to fit; others are drawn, unless they were queued with the trial."""
    for other in queue.current_trials(study).values():
        failure = other.user_attrs.get(queue.FAILURE)
        if failure in _NEVER_FIT and other.user_attrs.get(SETTINGS) == settings and other.number != trial.number:
            reason = f"the same settings as trial {other.user_attrs[QUEUE_KEY]}, which ended as {failure}"
            if queue.draw_again(study, trial):
                raise RepeatedSettings(reason)
            raise Infeasible(f"{reason}: not begun")


def _refuse(worker: Worker, study: optuna.Study, trial: optuna.Trial, error: Infeasible) -> NoReturn:
    """Show a trial that cannot be begun in MLflow, too."""
    settings = trial.user_attrs.get(SETTINGS, trial.params)
    refuse_trial(_plan(worker, study, trial, worker.project, _run_name(trial)), settings, worker.store, error)


def _run_name(trial: optuna.Trial) -> str:
    return f"{trial.user_attrs[QUEUE_KEY]}: {trial.user_attrs[NAME]}"


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
    """Run or resume a configuration in the trial's one MLflow run; its metrics.

    Args:
        worker: Whose resident parts are used.
        study: The trial's.
        trial: Stores the run as soon as it exists, and the metrics before the run has finished.
        project: With the trial's settings.
        name: Of its run.
        prune: Whether the pruner may end it.
        tags: Of its run.
    """
    known = trial.user_attrs
    if queue.METRICS in known:  # its worker died after its last step
        _finish_run(worker, known[queue.RUN_ID])
        return dict(known[queue.METRICS])
    if queue.PRUNED_AT in known:  # likewise, after the pruner's decision
        pruned = Pruned(known[queue.PRUNED_AT])
        _finish_run(worker, known[queue.RUN_ID], pruned)
        raise pruned
    worker.progress.trial_began(trial, known[QUEUE_KEY], name)
    plan = replace(
        _plan(worker, study, trial, project, name, tags),
        memory_bytes=memory_limit(project),
        report=worker.steps(trial, project, prune=prune),
        limit=lambda: deadline(worker.project.search.timeout_seconds, worker.stopwatch.before),
    )
    return run_trial(plan, worker.resident, worker.store, TrialObserver(worker.progress, known[QUEUE_KEY]))


class TrialObserver(Observer):
    """Passes a trial's steps on, and nothing else: twelve data reports would hide the study."""

    def __init__(self, progress: StudyProgress, key: queue.Key) -> None:
        self._progress, self._key = progress, key

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """Show how far the trial is."""
        self._progress.trial_step(self._key, metrics.step, total_steps, metrics.values.get("train/loss"))


def _plan(
    worker: Worker,
    study: optuna.Study,
    trial: optuna.Trial,
    project: Project,
    name: str,
    tags: Mapping[str, str] | None = None,
) -> TrialPlan:
    key = trial.user_attrs[QUEUE_KEY]
    return TrialPlan(
        project=project,
        parent=worker.parent,
        name=name,
        tags={"tunery.study": study.study_name, "tunery.trial": str(key), **(tags or {})},
        resume=_run_to_resume(worker, study, trial),
        declared=key == OWN_TRIAL,
        began=lambda run_id: trial.set_user_attr(queue.RUN_ID, run_id),
        ended=lambda metrics: trial.set_user_attr(queue.METRICS, metrics),
    )


def trial_project(project: Project, settings: Mapping[str, Any]) -> Project:
    """The project with a trial's settings; a combination that is not allowed makes the trial infeasible."""
    try:
        return with_settings(project, settings)
    except ConfigError as error:
        raise Infeasible(str(error)) from error


def _run_to_resume(worker: Worker, study: optuna.Study, trial: optuna.Trial) -> str | None:
    """The run that an earlier attempt began, if it can be resumed."""
    from tunery.tracking.study_runs import unfinished_child

    known = trial.user_attrs.get(queue.RUN_ID)
    if known is None and not queue.was_begun(trial):
        return None
    return unfinished_child(worker.store, worker.parent, known, study.study_name, str(trial.user_attrs[QUEUE_KEY]))


def _finish_run(worker: Worker, run_id: str, pruned: Pruned | None = None) -> None:
    from tunery.tracking.study_runs import finish_child

    finish_child(worker.store, run_id, pruned)
    WorkFolder.of(run_id).remove()


def memory_limit(project: Project) -> int | None:
    """search.memory in bytes; by default what the card has. None on a CPU, where memory can be swapped and shared."""
    from tunery.config.units import parse_bytes
    from tunery.estimation.estimate import available_bytes
    from tunery.models.device import resolve_device

    if project.search.memory is not None:
        return parse_bytes(project.search.memory)
    device = resolve_device(project.training.device)
    return available_bytes(device) if device == "cuda" else None
