"""`tunery tune`: a study from its project to a winner, in this process, with several workers, or on several hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault, Interrupted, RunStopped, StoreAway
from tunery.records.studies import StudyRecord
from tunery.runs.cache import Resident
from tunery.runs.start import alias_of, pinned
from tunery.runs.train import check_project
from tunery.search.checks import check_search, total_faults
from tunery.search.conclude import NOTHING_TO_REGISTER, conclude_once
from tunery.search.packing import run_session
from tunery.search.session import Executor, Session, StudyOptions
from tunery.search.space.known_good import known_good
from tunery.search.space.space import Settings
from tunery.search.study import queue, storage
from tunery.search.study.mlflow_runs import end_abandoned_runs, study_run
from tunery.search.study.progress import SEARCHED, StudyProgress
from tunery.search.study.study import begun_with, create_or_load, delete_untrained, enqueue_search_trials

if TYPE_CHECKING:
    from tunery.runs.observer import StudyObserver
    from tunery.tracking.run import Tracker


class _StudyStopped(Interrupted):
    """A study is resumed by the same command, which a trial's own error does not say."""

    def __init__(self, study: str, stopped: Interrupted | KeyboardInterrupt) -> None:
        # Outside of training a signal comes as KeyboardInterrupt: Python's own, or "stopped by SIGHUP".
        named = stopped.signal_name if isinstance(stopped, Interrupted) else str(stopped).removeprefix("stopped by ")
        self.signal_name, self.step = named or "SIGINT", getattr(stopped, "step", 0)
        advice = "Run the same command to resume it."
        RunStopped.__init__(self, f"study {study}: stopped by {self.signal_name}. {advice}")


def tune(
    project: Project, options: StudyOptions, observer: StudyObserver, executor: Executor | None = None
) -> StudyRecord:
    """Search a project's settings; the same command again resumes the study and runs only what is missing.

    Args:
        project: What is searched.
        options: Totals, workers, stores.
        observer: Shows the study's progress.
        executor: Runs the trials; by default as options.executor and options.workers say.

    Returns:
        The study, with its winner.

    Raises:
        InputError: If the project, the existing study, or a store cannot be used; before anything is begun.
        Interrupted: If it was stopped; nothing is left RUNNING, and nothing is lost.
    """
    from tunery.tracking.store import connect

    url = storage.storage_url(project.search.storage if options.storage is None else options.storage)
    check_project(project)
    check_search(project)
    store = connect(options.tracking_uri, project.name)
    name, alone = options.study or project.name, storage.is_one_host(url)
    alias = alias_of(project)
    begun = begun_with(url, name) if alias else {}
    project = pinned(project, store, begun)  # every trial begins with one adapter, wherever its alias goes meanwhile
    known = known_good(project, store)
    key, total = ("--trials", options.trials) if options.trials else ("search.trials", project.search.trials)
    if options.trials and project.search.repeats:
        advice = "Leave it out, or set search.repeats."
        raise ConfigError("tune", Fault(key, "unset when search.repeats is set", options.trials, advice))
    if total != "all" and (faults := total_faults(key, total, known)):
        raise ConfigError("tune", faults)
    resident = Resident()
    resident.start(project, store)
    observer.step("reading tasks and data")
    resident.prepare(project, ("dev", "locked"))
    with (
        storage.exclusive_study(url, name),
        storage.storage_errors(url),
        _executor(project, options, url, store.uri, executor) as run,
    ):
        opened = storage.open_storage(url)
        if alone:
            delete_untrained(opened, project, name, known, store)
        study = create_or_load(opened, project, name, known, alone=alone, start_alias=alias)
        with study_run(study, store, project, options.run_name or f"study {name}", one_host=alone) as tracker:
            progress = StudyProgress(project, observer)
            session = Session(project, options, study, url, store, tracker.run_id, progress, resident=resident)
            return _tune(session, known, tracker, run)


@contextmanager
def _executor(
    project: Project, options: StudyOptions, url: str, tracking: str, given: Executor | None
) -> Iterator[Executor]:
    """What runs the trials; places for all workers are found before anything is begun."""
    if given is not None:
        yield given
    elif options.executor == "ray":
        from tunery.search.workers.ray import ray_executor

        with ray_executor(project, options, url, tracking) as executor:
            yield executor
    else:
        from tunery.search.workers.local import run_in_processes, worker_environments

        worker_environments(project, options.workers)
        yield run_in_processes if options.workers > 1 else run_session


def _tune(session: Session, known: Sequence[Settings], tracker: Tracker, run: Executor) -> StudyRecord:
    project, options, study = session.project, session.options, session.study
    # Before trials are queued: what a dead worker left may be more than the total, and is then withdrawn.
    _requeue_abandoned(session, died=True)
    # On several hosts, one that joins with a smaller total in its project file withdraws nothing of the others.
    withdraw = options.trials is not None or session.one_host
    enqueue_search_trials(study, project, known, options.trials or project.search.trials, withdraw=withdraw)
    if options.timeout_seconds is not None:
        left = options.timeout_seconds - study.user_attrs.get(SEARCHED, 0.0)
        session = replace(session, until=time.time() + left)
    session.progress.begin(study)
    try:
        run(session)
        session.progress.note_time()  # the report shows it
        return conclude_once(session, tracker)
    except BaseException as error:
        with suppress(OSError, *storage.unreachable_errors()):
            stopped = f"stopped: {len(queue.unfinished(study))} trials are left"
            session.progress.step(f"{stopped}. Run the same command to resume them at their last step.")
        if isinstance(error, Interrupted | KeyboardInterrupt):
            raise _StudyStopped(study.study_name, error) from error
        raise
    finally:
        with suppress(StoreAway, *storage.unreachable_errors()):  # must not hide why the study ends
            if session.one_host:
                _requeue_abandoned(session, died=False)  # if a second Ctrl-C left no time to
            end_abandoned_runs(storage.related_studies(study), session.store, session.parent, one_host=session.one_host)
            session.progress.note_time()


def closing_lines(record: StudyRecord, options: StudyOptions) -> Iterator[str]:
    """Where a study that has ended is kept, what it registered, and what comes next."""
    from tunery.tracking.event_files import how_to_look_at_all
    from tunery.tracking.links import where_kept
    from tunery.tracking.store import connect

    store = connect(options.tracking_uri, record.project)
    run = store.client.get_run(record.run_id)
    yield f"kept as run {record.run_id}, with report.md, trials.csv and the plots in plots/study.html"
    yield where_kept(store, run.info.experiment_id, record.run_id)
    if run.data.params.get("cfg.training.tensorboard") == "true":
        yield f"curves of its trials: {how_to_look_at_all(store, run.info.experiment_id)}"
    if NOTHING_TO_REGISTER in record.notes:
        yield NOTHING_TO_REGISTER
    if record.model_version is not None:
        yield f"registered as models:/{record.model_version}"
        has_rules = run.data.params.get("cfg.promotion") != "null"  # without them, promote refuses
        promote = f"tunery promote models:/{record.model_version}, or " if has_rules else ""
        yield f"next: {promote}tunery chat models:/{record.model_version}"


def _requeue_abandoned(session: Session, *, died: bool) -> None:
    """Requeue trials whose workers are dead: in a study of one host, all that run while no worker does."""
    for study in storage.related_studies(session.study):
        if session.one_host:
            queue.requeue_running_trials(study, died=died)
        else:
            queue.requeue_dead_trials(study, {})
