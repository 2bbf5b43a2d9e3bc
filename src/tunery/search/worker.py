"""A worker: it takes waiting trials, runs each, and stores how it ended."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna

from tunery.config.project import Project
from tunery.errors import (
    ConfigError,
    InputError,
    Interrupted,
    Pruned,
    RunHeld,
    RunStopped,
    StorageError,
    StoreAway,
    TrackingError,
    TuneryError,
)
from tunery.records.runs import StepMetrics
from tunery.runs.cache import Resident
from tunery.search.sampling.pruners import RUNGS, prune_metric, rung_value
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.progress import SECONDS, Stopwatch, StudyProgress
from tunery.tracking.store import wait_until_back

if TYPE_CHECKING:
    from tunery.tracking.store import Store

RUNG_STEPS = "rung_steps"
# Failures caused by a trial's settings: the sampler must count them as bad and keep away. Optuna's samplers leave
# failed trials out, and count pruned ones as worse than complete ones.
_BY_SETTINGS = frozenset({"oom", "nan", "timeout", "infeasible"})
_POLL_SECONDS = 1.0
_SECONDS_TO_RELEASE = 10.0


class _Failed(Exception):
    """The trial has failed, or is none of the queued ones; its user attributes say why."""


class RepeatedSettings(RunStopped):
    """The settings are those of a trial that cannot be run; others are drawn instead."""

    failure = "repeated"


class _TimeIsUp(Interrupted):
    """The search's time is up in the middle of a trial, which waits until there is more."""


@dataclass
class Worker:
    """One process's share of a study."""

    project: Project  # as it is declared
    store: Store  # MLflow's
    parent: str  # run id of the study
    progress: StudyProgress  # shows the study's progress
    resident: Resident = field(default_factory=Resident)  # base, rows and tasks that trials share
    until: float | None = None  # when the search's time is up, by time.monotonic(); None if it has no limit
    # By which its trials are known: two containers may have one host name and the same process ids.
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{secrets.token_hex(4)}:{os.getpid()}")
    pause: Callable[[float], None] = (
        time.sleep
    )  # called with seconds where there is nothing to do; may raise Interrupted
    pack: int = 1  # trials that this process trains at once, each by a worker of its own
    stopwatch: Stopwatch = field(init=False)  # of the current trial

    def work(self, study: optuna.Study, run: Callable[[optuna.Trial], Any]) -> None:
        """Run trials until all queued trials have ended, or time is up; `run` returns a trial's values or raises.

        Raises:
            Interrupted, KeyboardInterrupt: If the process was asked to stop; the trial waits for another worker.
            TrackingError, StorageError: If there is nowhere to write to, also after minutes; likewise.
        """
        silent_since: dict[int, float] = {}
        study._pop_waiting_trial_id = functools.partial(queue.pop_earliest, study)  # type: ignore[method-assign]
        while not self._time_is_up() and queue.unfinished(study):
            queue.requeue_dead_trials(study, silent_since)
            if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
                self.pause(_POLL_SECONDS)  # others run the last ones, and may die
                continue
            self.pause(0)
            try:
                study.optimize(lambda trial: self._run(trial, run), n_trials=1, catch=(_Failed,))
            except optuna.exceptions.UpdateFinishedTrialError:
                continue  # it was taken for dead, and another worker has resumed it
            except _TimeIsUp:
                break
            self.progress.update(study)

    def _run(self, trial: optuna.Trial, run: Callable[[optuna.Trial], Any]) -> Any:
        if queue.is_surplus(trial.study, trial):
            trial.set_user_attr(queue.SURPLUS, True)
            raise _Failed("surplus")
        trial.set_user_attr(queue.WORKER, self.name)
        self.stopwatch = Stopwatch(trial, SECONDS)
        try:
            return run(trial)
        except Pruned as error:
            raise optuna.TrialPruned(str(error)) from None
        except (Interrupted, KeyboardInterrupt):
            self._give_up(trial, "killed", "its worker was stopped")
            raise
        except RunHeld as error:  # its worker was taken for dead but lives: let it release the run, then try again
            self._give_up(trial, "killed", str(error))
            time.sleep(_SECONDS_TO_RELEASE)
            raise _Failed("killed") from None
        except StoreAway as error:  # MLflow's database restarts, say: the trial goes on when it is back
            # Counted as a retry: a store that answers, but never to this request, must not be asked for ever.
            self._give_up(trial, "killed", str(error), died=True)
            wait_until_back(self.store)
            raise _Failed("killed") from None
        except TuneryError as error:
            # The next trial would meet the same: a store is unreachable, or the project as declared is at fault.
            own = trial.user_attrs.get(QUEUE_KEY) == OWN_TRIAL and isinstance(error, InputError)
            if own or isinstance(error, ConfigError | StorageError | TrackingError):
                self._give_up(trial, "error", str(error))
                raise
            failure = error.failure if isinstance(error, RunStopped) else "error"
            _store_failure(trial, failure, str(error))
            raise (optuna.TrialPruned(failure) if failure in _BY_SETTINGS else _Failed(failure)) from None
        except Exception as error:  # libraries may raise anything, and one trial must not end the others
            if not self.resident.in_pack:  # there others are on the base, and the trial was on modules of its own
                self.resident.forget_base()
            _store_failure(trial, "error", f"{type(error).__name__}: {error}")
            raise _Failed("error") from error
        finally:
            self.stopwatch.note()

    def _give_up(self, trial: optuna.Trial, failure: str, reason: str, *, died: bool = False) -> None:
        """Leave the trial to another worker, with what it has cost so far."""
        self.stopwatch.note()
        queue.add_successor(trial.study, trial.storage.get_trial(trial._trial_id), died=died)
        _store_failure(trial, failure, reason)

    def _time_is_up(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def steps(self, trial: optuna.Trial, project: Project, *, prune: bool) -> Callable[[StepMetrics], None]:
        """What training reports to: ends the trial when the search's time is up, or the pruner (if any) decides so."""
        metric = prune_metric(project) if prune else None
        direction = next(iter(project.search.objectives.values()))
        stored = queue.TRAINED in trial.user_attrs

        def report(metrics: StepMetrics) -> None:
            """Raises Pruned, or _TimeIsUp."""
            if self._time_is_up():
                raise _TimeIsUp("the study's time limit", metrics.step, resumable=True)
            self.stopwatch.note_now_and_then()
            nonlocal stored
            if not stored:
                if project.training.checkpoints == "epoch":
                    trial.set_user_attr(RUNGS, project.training.checkpoint_count)
                trial.set_user_attr(queue.TRAINED, True)  # from here on the study's settings must not change
                stored = True
            value = None if metric is None else rung_value(metrics.values, metric, direction)
            if value is not None and _is_worse(trial, value, metrics.step):
                trial.set_user_attr(queue.PRUNED_AT, metrics.step)  # before MLflow's run ends, as for metrics
                raise Pruned(metrics.step)

        return report


def _store_failure(trial: optuna.Trial, failure: str, reason: str) -> None:
    from tunery.tracking.redact import redact

    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # must not hide why the trial ends
        trial.set_user_attr(queue.FAILURE, failure)
        trial.set_user_attr(queue.REASON, redact(" ".join(reason.split()))[:500])


def _is_worse(trial: optuna.Trial, value: float, step: int) -> bool:
    """Report a rung, once for each step: a resumed trial may measure its last checkpoint again."""
    steps = list(trial.user_attrs.get(RUNG_STEPS, []))
    if step not in steps:
        steps.append(step)
        trial.report(value, len(steps))
        trial.set_user_attr(RUNG_STEPS, steps)
    return trial.should_prune()
