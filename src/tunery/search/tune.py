"""`tunery tune`: a study from its project to a winner, alone, with several workers, or joined by other hosts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError, Fault, Interrupted, RunStopped
from tunery.records import StudyRecord
from tunery.runs.train import check_project
from tunery.search.conclude import conclude, keep_record, kept_record
from tunery.search.finals import finals_name
from tunery.search.session import SEARCHED, Engine, Session, StudyOptions, in_this_process, worker_of
from tunery.search.space.checks import check_space
from tunery.search.space.space import Settings
from tunery.search.study import queue
from tunery.search.study.progress import ELAPSED, StudyProgress
from tunery.search.study.storage import answering, away, held, is_one_host, open_storage, storage_url
from tunery.search.study.study import (
    STUDY_RUN,
    armed,
    drop_untried,
    join,
    known_configurations,
    lay_out_finals,
    lay_out_trials,
    run_of_study,
    tags_of,
    take_from_the_dead,
)

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tunery.runs.observer import StudyObserver
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store

# A run is made, and then its trial is told of it.
_JUST_MADE_SECONDS = 60.0


class _StudyStopped(Interrupted):
    """A study is gone on with by its name; --resume, of which a trial's own error speaks, is of `tunery train`."""

    def __init__(self, study: str, stopped: Interrupted | KeyboardInterrupt) -> None:
        # Outside of training a signal comes as KeyboardInterrupt: Python's own, or "stopped by SIGHUP".
        named = stopped.signal_name if isinstance(stopped, Interrupted) else str(stopped).removeprefix("stopped by ")
        self.signal_name, self.step = named or "SIGINT", getattr(stopped, "step", 0)
        RunStopped.__init__(self, f"study {study}: stopped by {self.signal_name}. The same command goes on with it.")


def tune(project: Project, options: StudyOptions, view: StudyObserver, engine: Engine | None = None) -> StudyRecord:
    """Search a project's settings; the same command again goes on, and does only what is missing.

    Args:
        project: What is searched.
        options: Totals, workers, stores.
        view: Told what a person would want to see.
        engine: Runs the trials; by default in this process, or in options.workers processes.

    Returns:
        The study, with its winner.

    Raises:
        InputError: If the project, the study that is there, or a store cannot be used; before anything is begun.
        Interrupted: If it was stopped; nothing is left RUNNING, and nothing is lost.
    """
    from tunery.tracking.store import connect

    url = storage_url(project.search.storage if options.storage is None else options.storage)
    check_project(project)
    check_space(project)
    store = connect(options.tracking_uri, project.name)
    extra = known_configurations(project, store)
    _check_total(project, options, extra)
    name = options.study or project.name
    with held(url, name), answering(url), _engine(project, options, url, store.uri, engine) as run:
        storage = open_storage(url)
        if is_one_host(url):
            drop_untried(storage, name, project, extra, store)
        study = armed(join(storage, name, project, extra, alone=is_one_host(url)), project, extra)
        with _study_run(study, store, options, project, url) as tracker:
            progress = StudyProgress(project, view)
            session = Session(project, options, name, url, storage, store, extra, tracker.run_id, progress)
            return _tune(session, study, tracker, run)


def _check_total(project: Project, options: StudyOptions, extra: Sequence[Settings]) -> None:
    """Those settings that are tried in any case must find place; search.trials alone was checked with the project."""
    given = 1 + len(extra)
    trials = options.trials or project.search.trials
    if trials < given:
        rule = f"at least {given}: the project's own settings and those of search.known_good"
        raise ConfigError("tune", Fault("--trials" if options.trials else "search.trials", rule, trials))


def _tune(session: Session, study: optuna.Study, tracker: Tracker, engine: Engine) -> StudyRecord:
    project, options = session.project, session.options
    # Before the trials are laid out: what a dead worker left may be more than the total, and is then withdrawn.
    _bring_back(session, study, died=True)
    # On several hosts, one that joins with a smaller total of its project file takes nothing from the others.
    final = options.trials is not None or is_one_host(session.url)
    lay_out_trials(study, project, session.extra, options.trials or project.search.trials, withdraw=final)
    began, before = time.time(), float(study.user_attrs.get(ELAPSED, 0.0))
    left = None if options.timeout_seconds is None else options.timeout_seconds - study.user_attrs.get(SEARCHED, 0.0)
    session = replace(session, until=None if left is None else began + left)
    session.progress.begin(study, session.name)
    try:
        engine(session, study)
        study.set_user_attr(ELAPSED, before + time.time() - began)  # the report tells it
        record = _end(session, study, tracker)
    except (Interrupted, KeyboardInterrupt) as stopped:
        _tell_how_to_go_on(session, study)
        raise _StudyStopped(session.name, stopped) from stopped
    except BaseException:
        _tell_how_to_go_on(session, study)
        raise
    finally:
        with suppress(*away()):  # it must not hide why the study is left
            if is_one_host(session.url):
                _bring_back(session, study, died=False)  # where a second Ctrl-C left no time to
            _end_abandoned(session, study)
            study.set_user_attr(ELAPSED, before + time.time() - began)
    return record


def _bring_back(session: Session, study: optuna.Study, *, died: bool) -> None:
    """Let trials go on whose workers are dead: in a study of one host, all that run while no worker does."""
    for there in filter(None, (study, _finals_if_there(session), _end_if_there(session))):
        if is_one_host(session.url):
            take_from_the_dead(there, died=died)
        else:
            queue.mend(there, {})


@contextmanager
def _engine(project: Project, options: StudyOptions, url: str, tracking: str, given: Engine | None) -> Iterator[Engine]:
    """What runs the trials; a cluster is connected to before anything is begun."""
    if given is not None:
        yield given
    elif options.executor == "ray":
        from tunery.search.workers.ray import on_cluster

        with on_cluster(project, options, url, tracking) as engine:
            yield engine
    else:
        from tunery.search.workers.local import in_processes, places_for

        places_for(project, options.workers)  # before anything is begun
        yield in_this_process if options.workers == 1 else in_processes


@contextmanager
def _study_run(
    study: optuna.Study, store: Store, options: StudyOptions, project: Project, url: str
) -> Iterator[Tracker]:
    """The study's one run in MLflow, made by whoever is first."""
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run

    known = run_of_study(study, store, wait=not is_one_host(url))
    told = STUDY_RUN in study.user_attrs
    name = options.run_name or study.study_name
    tags = {"tunery.study": study.study_name, **tags_of(study)}
    with open_run(store, "study", project.name, known, name, tags=tags) as tracker:
        if not told:
            tracker.log_config(resolved(project), fingerprint(project), first=True)
            tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})
            tracker.log_provenance(collect(project.folder))
            study.set_user_attr(STUDY_RUN, tracker.run_id)  # last: who is killed before does all of it again
        tracker.accept_resume()
        try:
            yield tracker
        except BaseException:
            if not is_one_host(url) and _is_worked_on(study):
                tracker.hand_over()
            raise


def _is_worked_on(study: optuna.Study) -> bool:
    """Whether other processes run a trial of the study now; those of this one have been told to have ended."""
    from sqlalchemy.exc import SQLAlchemyError

    names = (study.study_name, finals_name(study.study_name), _end_name(study.study_name))
    # A storage that is away must not hide why the study was left.
    with suppress(optuna.exceptions.OptunaError, SQLAlchemyError, OSError):
        for there in filter(None, (_load(study._storage, name) for name in names)):
            queue.mend(there, {})
            if there.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                return True
    return False


def _finals_if_there(session: Session) -> optuna.Study | None:
    return _load(session.storage, finals_name(session.name))


def _end_if_there(session: Session) -> optuna.Study | None:
    return _load(session.storage, _end_name(session.name))


def _load(storage: BaseStorage, name: str) -> optuna.Study | None:
    with suppress(KeyError):
        return optuna.load_study(study_name=name, storage=storage)
    return None


def _end_name(study: str) -> str:
    return f"{study} end"


def _end(session: Session, study: optuna.Study, tracker: Tracker) -> StudyRecord:
    """Conclude once for each set of finals, whichever host comes first; the others wait for its record."""
    finals = _finals_if_there(session)
    there = _end_if_there(session)
    # What failed is tried again by the next command, as another slot.
    key = f"{_digest(study, finals, session.project)}:{0 if there is None else failed_for_good(there)}"
    end = lay_out_finals(session.storage, _end_name(session.name), [queue.TrialJob(key)], "maximize")
    worker = worker_of(session)

    def run(trial: optuna.Trial) -> float:
        trial.set_user_attr(queue.RUN_ID, session.parent)  # it works: one that names no run for long is taken for dead
        record = conclude(worker, study, finals, tracker)
        keep_record(trial, record)
        return 0.0

    worker.work(end, run)
    ended = queue.standing(end)[key]
    kept = kept_record(ended)
    if kept is not None:
        return kept
    why = ended.user_attrs.get(queue.REASON, "its worker died")
    raise RunStopped(f"study {session.name}: every trial has ended, but no report was made: {why}. Run it again.")


def failed_for_good(study: optuna.Study) -> int:
    """Slots that nobody tries again; one whose worker was stopped waits for another, who must find the same slot."""
    failed = optuna.trial.TrialState.FAIL
    return sum(one.state == failed and not queue.may_retry(one) for one in queue.standing(study).values())


def _digest(study: optuna.Study, finals: optuna.Study | None, project: Project) -> str:
    """What a conclusion rests on: which trials and finals have ended, and how."""
    parts = [
        [str(slot), trial.state.name, trial.values]
        for one in filter(None, (study, finals))
        for slot, trial in queue.standing(one).items()
    ]
    text = json.dumps([parts, project.search.finalists, project.search.seeds])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tell_how_to_go_on(session: Session, study: optuna.Study) -> None:
    with suppress(OSError, *away()):
        left = len(queue.unfinished(study))
        session.progress.step(
            f"stopped: {left} trials are left. The same command goes on with them, at their last step."
        )


def _end_abandoned(session: Session, study: optuna.Study) -> None:
    """No run of a dead worker stays RUNNING; those of other hosts' workers, and those that wait, are theirs."""
    from tunery.tracking.study_runs import end_abandoned

    studies = [one for one in (study, _finals_if_there(session)) if one is not None]

    def worked_on() -> dict[str, bool]:
        found: dict[str, bool] = {}
        for trial in (trial for one in studies for trial in one.get_trials(deepcopy=False)):
            if queue.RUN_ID in trial.user_attrs:
                run_id = trial.user_attrs[queue.RUN_ID]
                found[run_id] = found.get(run_id, False) or trial.state == optuna.trial.TrialState.RUNNING
        return found

    end_abandoned(session.store, session.parent, worked_on, 0.0 if is_one_host(session.url) else _JUST_MADE_SECONDS)
