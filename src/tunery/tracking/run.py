"""One MLflow run, from its first line to its end, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tunery.errors import Fault, InputError, Interrupted, Pruned, RefError, RunStopped, StoreAway
from tunery.tracking.process import this_process
from tunery.tracking.redact import first_line, guard_logs, redact
from tunery.tracking.runlog import RunLog
from tunery.tracking.search import recent_runs
from tunery.tracking.store import Store, refusals
from tunery.training.stop import SignalHandler

if TYPE_CHECKING:
    from tunery.tracking.search import Run

KIND, PROJECT, CONTINUED = "tunery.kind", "tunery.project", "tunery.continued_as"
FAILURE, ERROR, PRUNED = "tunery.failure", "tunery.error", "tunery.pruned"
# Who works on the run: a process that was killed leaves it RUNNING.
PROCESS = "tunery.process"
EVALUATED_MODEL = "tunery.evaluated_model"

# More trials can always be asked of a study.
_EXTENDED = ("study",)
# How long the end of a run waits for a server that is away, before it gives the rest up and says so.
PATIENCE_SECONDS = 30.0


def open_run(
    store: Store,
    kind: str,
    project_name: str,
    resume_run_id: str | None = None,
    run_name: str | None = None,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Tracker:
    """A tracker for one run; the run begins with its `with` block and ends with it.

    Under `mlflow run` the run that MLflow made (MLFLOW_RUN_ID) is used, in the experiment where MLflow made it; the
    first tracker of the process takes it. Else a run is made in the store's experiment, or in its parent's.

    Args:
        kind, project_name: The tags tunery.kind, such as train, study or trial, and tunery.project.
        resume_run_id: An interrupted run to go on with; until `accept_resume`, a mistake leaves it as it was.
        run_name: A name for the MLflow UI; MLflow invents one otherwise. One that was given to `mlflow run` stays.
        parent: Run id of the run that this one belongs to: a trial's study.
        tags: Of the run from its first moment, so that it is found even if its process dies in the next.
    """
    tags = {KIND: kind, PROJECT: project_name, PROCESS: this_process(), **(tags or {})}
    return Tracker(store, kind, project_name, resume_run_id, redact(run_name), parent, tags)


@dataclass(eq=False)
class Tracker(RunLog):
    """One run in MLflow; a context manager. Its logging methods are RunLog's."""

    store: Store
    kind: str
    project: str
    resume_run_id: str | None
    run_name: str | None
    parent: str | None
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        self.resumed = self.resume_run_id is not None
        self._monitor: Any = None
        # Outside of training, which has its own handler, these would end the process and leave the run RUNNING.
        self._signals = SignalHandler(self._interrupt, ["SIGTERM", "SIGHUP"], unhandled_only=True)
        self._former: RunEnd | None = None
        self._left = False

    def __enter__(self) -> Self:
        guard_logs()
        run = self._begin()
        self.run_id, self.experiment_id = str(run.info.run_id), str(run.info.experiment_id)
        try:
            self.prepare(run)
            self.tag(**self.tags)
            self._signals.__enter__()
            self._start_monitor()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__()
        self.stopped_by = None
        end = run_end_of(error, self._former)
        try:
            if self._monitor is not None:
                self._monitor.finish()
            if end.tags and not self._left:
                self.tag(**end.tags)
            lost = self.queue.close(PATIENCE_SECONDS)
        except BaseException as late:
            # The last points were refused, or a signal came now: the run still must not stay RUNNING.
            self._terminate(end if error else run_end_of(late))
            if error is None:
                raise
            error.add_note(redact(str(late)))
            return
        if not self._terminate(end) or lost:
            self._tell_lost(lost or ["the run's end"], error)

    def accept_resume(self) -> None:
        """Say that all which could be wrong with a resume has been looked at: from here the run's end is a new one."""
        self._former = None

    def hand_over(self) -> None:
        """Let other processes end the run, which they go on with: this one's end is not the run's."""
        self._left = True

    def _begin(self) -> Run:
        from mlflow.tracking.context import registry

        client, tags = self.store.client, dict(self.tags)
        with refusals(self.store.uri):
            adopted = os.environ.pop("MLFLOW_RUN_ID", None)
            if self.resume_run_id is not None:
                return self._resume(self.resume_run_id, adopted)
            if adopted is not None:
                return self._adopt(adopted)
            if self.parent is not None:
                experiment = client.get_run(self.parent).info.experiment_id
                tags["mlflow.parentRunId"] = self.parent
            else:
                experiment = self.store.experiment_id()
            return client.create_run(experiment, tags=redact(registry.resolve_tags(tags)), run_name=self.run_name)

    def _adopt(self, run_id: str) -> Run:
        """The run that `mlflow run` made; a name that somebody gave it there stays."""
        client = self.store.client
        made = client.get_run(run_id).info
        client.update_run(run_id, status="RUNNING", name=self.run_name if is_invented(made.run_name) else None)
        self.store.describe_experiment(client.get_experiment(made.experiment_id))
        return client.get_run(run_id)

    def _resume(self, run_id: str, adopted: str | None) -> Run:
        run, client = check_resume(self.store, run_id, self.kind, self.project), self.store.client
        # A resume that is refused leaves them as they were.
        why = {key: value for key, value in run.data.tags.items() if key in (FAILURE, ERROR, PROCESS)}
        self._former = RunEnd(run.info.status, why, run.info.end_time)
        forget_failure(self.store, run)
        client.update_run(run_id, status="RUNNING")
        if adopted is not None and adopted != run_id:
            # `mlflow run` made a run for this command; the work goes on in the old one.
            client.set_tag(adopted, CONTINUED, run_id)
            note = f"Resumed run {run_id}; the curves and the adapter are there."
            client.set_tag(adopted, "mlflow.note.content", note)
        return client.get_run(run_id)

    def _terminate(self, end: RunEnd) -> bool:
        """Whether the server knows the end. Tried for a while: a run that stays RUNNING misleads everyone."""
        from mlflow.exceptions import MlflowException

        until, client = time.monotonic() + PATIENCE_SECONDS, self.store.client
        while not self._left:
            try:
                if end.status == "RUNNING":  # as a killed process left it, before a resume that was refused
                    client.update_run(self.run_id, status="RUNNING")
                    return True
                if end.status == "FINISHED" and self.kind in _EXTENDED:
                    # What a process on another host said when it was stopped: the run has ended well since.
                    forget_failure(self.store, client.get_run(self.run_id))
                client.set_terminated(self.run_id, end.status, end.time_ms)
                return True
            except MlflowException:
                if time.monotonic() >= until:
                    return False
                time.sleep(1.0)
        return True

    def _tell_lost(self, lost: list[str], error: BaseException | None) -> None:
        told = f"the tracking server stopped answering, and did not get: {', '.join(lost)}"
        kept = f"The adapter is not lost: it lies in {self.adapter_folder}."
        adapter = "No adapter was written yet." if self.adapter_folder is None else kept
        copy = f"Points of the curves are in {self.queue.folder}. " if self.queue.folder.is_dir() else ""
        fault = Fault(told, advice=f"{copy}{adapter}")
        failure = StoreAway(f"run {self.run_id} at {redact(self.store.uri)}", fault)
        if error is None:
            raise failure
        error.add_note(str(failure))

    def _start_monitor(self) -> None:
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("false", "0"):
            return
        from tunery.tracking.system_metrics import SystemMetrics

        self._monitor = SystemMetrics(self.run_id, self._queue.post, self.store.uri, resumed=self.resumed)
        self._monitor.start()

    def _interrupt(self, name: str) -> None:
        self.stopped_by = name
        raise KeyboardInterrupt(f"stopped by {name}")


def is_invented(name: str | None) -> bool:
    """Whether a run's name is one that MLflow made up, such as thoughtful-ant-123, and so may be replaced."""
    from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

    first, _, rest = (name or "").partition("-")
    second, _, digits = rest.partition("-")
    return first in _GENERATOR_PREDICATES and second in _GENERATOR_NOUNS and digits.isdecimal()


def check_resume(store: Store, run_id: str, kind: str, project: str) -> Run:
    """Look at a run that a command of this kind and project would go on with; nothing is changed.

    Raises:
        RefError: If it is not there, was deleted, has finished, or is of another kind or project.
    """
    where, run = f"--resume {run_id}", store.found(store.client.get_run, run_id)
    if run is None:
        recent = recent_runs(store, "attributes.status != 'FINISHED'")
        known = ", ".join(f"{run.info.run_id} ({run.info.status})" for run in recent)
        there = f"known are {known or 'none that could be resumed'}"
        raise RefError(where, Fault("no such run", there, advice=store.where))
    if run.info.lifecycle_stage == "deleted":
        raise RefError(where, f"the run was deleted. Bring it back first: mlflow runs restore --run-id {run_id}")
    if run.info.status == "FINISHED" and kind not in _EXTENDED:
        raise RefError(where, "the run is FINISHED, but must be KILLED, FAILED or left RUNNING. Start a new run.")
    wanted = (
        (KIND, kind, "Start a new run."),
        (PROJECT, project, "Name the project that the run is of: --project <folder>."),
    )
    tags = run.data.tags
    foreign = [
        Fault(f"its tag {tag}", value, tags.get(tag), advice) for tag, value, advice in wanted if tags.get(tag) != value
    ]
    if foreign:
        raise RefError(where, foreign)
    return run


def forget_failure(store: Store, run: Run) -> None:
    """Delete the tags that say why a run ended badly: it goes on, or has ended well since.

    Another worker of a study may delete them at the same moment.
    """
    for tag in (FAILURE, ERROR):
        if tag in run.data.tags:
            store.found(store.client.delete_tag, run.info.run_id, tag)


@dataclass(frozen=True)
class RunEnd:
    """A run's last status (FINISHED, FAILED or KILLED), the tags that say why, and when it was (None: now)."""

    status: str
    tags: dict[str, str] = field(default_factory=dict)
    time_ms: int | None = None


def run_end_of(error: BaseException | None, former: RunEnd | None = None) -> RunEnd:
    """The ending that an exception means; None is a good one.

    FINISHED, also for a trial that was pruned; KILLED for a signal; FAILED for all else, with `tunery.failure` and the
    first line of the error. After a mistake in the command, which says nothing about the run, it is the former ending
    of a resumed run in which nothing was done since.
    """
    if former is not None and isinstance(error, InputError):
        return former
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return RunEnd("FINISHED")
    if isinstance(error, Pruned):
        return RunEnd("FINISHED", {PRUNED: error.at})
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return RunEnd("KILLED", {FAILURE: Interrupted.failure, ERROR: first_line(error)})
    failure = error.failure if isinstance(error, RunStopped) else "error"
    return RunEnd("FAILED", {FAILURE: failure, ERROR: first_line(error)})
