"""The trials of the search itself: draw settings, train one configuration, return its dev scores."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import optuna

from tunery.config.project import Project
from tunery.errors import ConfigError, Infeasible, Interrupted, Pruned, TaskError, TimedOut
from tunery.records.runs import StepMetrics
from tunery.reporting.base_fit import fit_sentences
from tunery.runs.observer import Observer
from tunery.runs.racing import Rival
from tunery.runs.trial import TrialPlan, refuse_trial, run_trial
from tunery.runs.workdir import WorkFolder
from tunery.search.objectives import check_metrics, check_task_metrics, constraint_values, objective_values
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY, SEED, Settings, draw, is_own, name_of, with_settings
from tunery.search.study import queue
from tunery.search.study.progress import NAME, SETTINGS, StudyProgress, best_settings, rows
from tunery.search.worker import RepeatedSettings, Worker
from tunery.training.stop import SignalHandler

# What does not depend on the moment: the same settings would end so again.
_NEVER_FIT = ("infeasible", "oom")
_SECONDS_BETWEEN_ALARMS = 1.0


def run_search_trial(worker: Worker, trial: optuna.Trial) -> list[float]:
    """Draw a trial's settings and run them; values of the objectives, in their order."""
    try:
        settings = _draw(trial, worker.project)
        project = worker.project if is_own(trial) else trial_project(worker.project, settings)
        project = with_seed(project, trial.user_attrs[SEED]) if SEED in trial.user_attrs else project
    except Infeasible as error:
        plan = _plan(worker, trial, worker.project, _run_name(trial), {})
        refuse_trial(plan, trial.user_attrs.get(SETTINGS, trial.params), worker.store, error)
    with suppress(TaskError):  # the trial meets it again, and its run reports it
        check_task_metrics(worker.project, worker.resident.tasks(worker.project).higher_is_better)
    tags = {"tunery.seed": str(project.training.seed)} if SEED in trial.user_attrs else {}
    metrics = run(worker, trial, project, _run_name(trial), prune=True, tags=tags)
    search = worker.project.search
    check_metrics(worker.project, metrics)
    for key, excess in constraint_values(metrics, search.constraints).items():
        trial.set_constraint(key, excess)
    return objective_values(metrics, search.objectives)


def _draw(trial: optuna.Trial, project: Project) -> Settings:
    try:
        settings = draw(trial, project)
    except ConfigError as error:  # an expression that has no value for what was drawn
        trial.set_user_attr(NAME, name_of(trial.params, project))
        raise Infeasible(str(error)) from error
    trial.set_user_attr(SETTINGS, settings)
    trial.set_user_attr(NAME, name_of(settings, project))
    if queue.RUN_ID not in trial.user_attrs:
        _require_new(trial, settings)
    return settings


def _require_new(trial: optuna.Trial, settings: Settings) -> None:
    """Do not begin settings that are known not to fit; others are drawn, unless they were queued with the trial."""
    for other in queue.current_trials(trial.study).values():
        failure = other.user_attrs.get(queue.FAILURE)
        if failure in _NEVER_FIT and other.user_attrs.get(SETTINGS) == settings and other.number != trial.number:
            reason = f"the same settings as trial {other.user_attrs[QUEUE_KEY]}, which ended as {failure}"
            if queue.draw_again(trial):
                raise RepeatedSettings(reason)
            raise Infeasible(f"{reason}: not begun")


def _run_name(trial: optuna.Trial) -> str:
    seed = f", seed {trial.user_attrs[SEED]}" if SEED in trial.user_attrs else ""
    return f"{trial.user_attrs[QUEUE_KEY]}: {trial.user_attrs[NAME]}{seed}"


def run(
    worker: Worker, trial: optuna.Trial, project: Project, name: str, *, prune: bool, tags: Mapping[str, str]
) -> dict[str, float]:
    """Run or resume a configuration in the trial's one MLflow run; its metrics.

    Args:
        worker: Whose resident parts are used.
        trial: Stores the run as soon as it exists, and the metrics before the run has finished.
        project: With the trial's settings.
        name, tags: Of its run.
        prune: Whether the pruner may end it.
    """
    from tunery.tracking.study_runs import finish_child

    known = trial.user_attrs
    if queue.METRICS in known or queue.PRUNED_AT in known:  # its worker died after the last step, or the pruner's word
        pruned = None if queue.METRICS in known else Pruned(known[queue.PRUNED_AT])
        finish_child(worker.store, known[queue.RUN_ID], pruned)
        WorkFolder.of(known[queue.RUN_ID]).remove()
        if pruned is not None:
            raise pruned
        return dict(known[queue.METRICS])
    worker.progress.trial_began(trial, known[QUEUE_KEY], name)
    plan = replace(
        _plan(worker, trial, project, name, tags),
        memory_bytes=memory_limit(project),
        report=worker.steps(trial, project, prune=prune),
        limit=lambda: deadline(worker.project.search.timeout_seconds, worker.stopwatch.before),
        rival=(lambda: _rival(worker, trial)) if prune else lambda: None,
        outraced=lambda at: trial.set_user_attr(queue.PRUNED_AT, at),
    )
    return run_trial(plan, worker.resident, worker.store, TrialObserver(worker.progress, known[QUEUE_KEY]))


def _rival(worker: Worker, trial: optuna.Trial) -> Rival | None:
    """The last of the trials that would be finalists now: who is surely worse than it is none; None if there are fewer.

    The project's own settings are in the finals whatever they score.
    """
    search = worker.project.search
    if search.racing is None or is_own(trial):
        return None
    ahead = best_settings(rows(trial.study, worker.project), worker.project)
    place = max(1, search.finalists)
    rival = ahead[place - 1].run_id if len(ahead) >= place else None
    return None if rival is None else Rival(rival, search.racing)


class TrialObserver(Observer):
    """Passes a trial's steps on, and nothing else: twelve data reports would hide the study."""

    def __init__(self, progress: StudyProgress, key: queue.Key) -> None:
        self._progress, self._key = progress, key

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """Show how far the trial is."""
        self._progress.trial_step(self._key, metrics.step, total_steps, metrics.values.get("train/loss"))


def _plan(worker: Worker, trial: optuna.Trial, project: Project, name: str, tags: Mapping[str, str]) -> TrialPlan:
    from tunery.tracking.study_runs import unfinished_child

    known, key, study = trial.user_attrs.get(queue.RUN_ID), trial.user_attrs[QUEUE_KEY], trial.study.study_name
    begun = known is not None or queue.was_begun(trial)
    resume = unfinished_child(worker.store, worker.parent, known, study, str(key)) if begun else None
    pack = {"tunery.pack": str(worker.pack)} if worker.pack > 1 else {}
    return TrialPlan(
        project=project,
        parent=worker.parent,
        name=name,
        tags={"tunery.study": study, "tunery.trial": str(key), **pack, **tags},
        resume=resume,
        declared=key == OWN_TRIAL,
        began=lambda run_id: trial.set_user_attr(queue.RUN_ID, run_id),
        fits=lambda fit: worker.progress.tell(trial, fit_sentences(fit, project.base.model)),
        ended=lambda metrics: trial.set_user_attr(queue.METRICS, metrics),
    )


def trial_project(project: Project, settings: Mapping[str, Any]) -> Project:
    """The project with a trial's settings; a combination that is not allowed makes the trial infeasible."""
    try:
        return with_settings(project, settings)
    except ConfigError as error:
        raise Infeasible(str(error)) from error


def with_seed(project: Project, seed: int, **changes: Any) -> Project:
    """The project with a seed, and other changes of its section `training`."""
    training = project.training.model_copy(update={"seed": seed, **changes})
    copy = project.model_copy(update={"training": training})
    copy._folder = project.folder
    return copy


def memory_limit(project: Project) -> int | None:
    """search.memory in bytes; by default what the card has. None on a CPU, where memory can be swapped and shared."""
    from tunery.config.units import parse_bytes
    from tunery.models.device import available_bytes, resolve_device

    if project.search.memory is not None:
        return parse_bytes(project.search.memory)
    device = resolve_device(project.training.device)
    return available_bytes(device) if device == "cuda" else None


@contextmanager
def deadline(seconds: float | None, spent: float = 0.0) -> Iterator[None]:
    """Raise TimedOut in the main thread when time is up, at whatever line it is; again if that was swallowed.

    In other threads, and without SIGALRM (Windows), there is no alarm.

    Args:
        seconds: How long the work may take; None: as long as it takes.
        spent: What earlier attempts have used of it.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    if spent >= seconds:
        raise TimedOut(seconds)

    def ring(_: str) -> None:
        # While the first alarm is on its way, a second would only interrupt what cleans up after it.
        if not _comes_from_alarm(sys.exception()):
            raise TimedOut(seconds)

    with SignalHandler(ring, ["SIGALRM"]):
        signal.setitimer(signal.ITIMER_REAL, seconds - spent, _SECONDS_BETWEEN_ALARMS)
        try:
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (TimedOut, Interrupted):
            raise
        except Exception as error:  # what a library made of the alarm
            if _comes_from_alarm(error):
                raise TimedOut(seconds) from error
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _comes_from_alarm(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, TimedOut):
        error = error.__context__
    return error is not None
