"""One command at work on a study: what it was asked, where it stands, and who runs its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import optuna

from tunery.config.project import Project
from tunery.search.finals import final_jobs, finals_name, run_final
from tunery.search.space.space import Settings
from tunery.search.study import queue
from tunery.search.study.progress import StudyProgress
from tunery.search.study.study import (
    lay_out_finals,
)
from tunery.search.trials import run_search_trial
from tunery.search.workers.worker import Worker

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tunery.tracking.store import Store


SEARCHED = "search_seconds"


@dataclass(frozen=True)
class StudyOptions:
    """What the command says beside the project.

    Args:
        study: Name; by default the project's.
        trials: In all, whatever was done before; by default search.trials.
        timeout_seconds: For the search in all, whatever was used before; trials that then run can be gone on with.
        workers: Processes on this host, or actors on a Ray cluster.
        storage: Optuna's storage; by default search.storage, else ./optuna.db.
        tracking_uri: MLflow's store.
        run_name: Of the study's run in MLflow; by default the study's name.
        executor: Where the workers are.
        address: Of the Ray cluster; by default the one that runs here.
        gpus_per_worker: That Ray gives to a worker; by default one where the cluster has any.
    """

    study: str | None = None
    trials: int | None = None
    timeout_seconds: float | None = None
    workers: int = 1
    storage: str | None = None
    tracking_uri: str | None = None
    run_name: str | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Session:
    """One command's part in a study.

    Args:
        url: Of the storage.
        extra: The known-good configurations.
        until: When the search's time is up, by time.time().
    """

    project: Project
    options: StudyOptions
    name: str
    url: str
    storage: BaseStorage
    store: Store
    extra: Sequence[Settings]
    parent: str
    progress: StudyProgress
    until: float | None = None


Engine = Callable[[Session, optuna.Study], None]


def work_through(worker: Worker, session: Session, study: optuna.Study) -> None:
    """A worker's whole part: the trials of the search, then those of the finals."""
    began = time.monotonic()
    used = float(study.user_attrs.get(SEARCHED, 0.0))
    if session.until is not None:
        worker.until = began + session.until - time.time()

    def note() -> None:
        spent = used + time.monotonic() - began
        study.set_user_attr(SEARCHED, max(spent, float(study.user_attrs.get(SEARCHED, 0.0))))

    def run(trial: optuna.Trial) -> list[float]:
        note()  # after each trial, not at the end alone: a kill must not make the search's time longer
        return run_search_trial(worker, study, trial)

    try:
        worker.work(study, run)
    finally:
        note()
    worker.until = None
    jobs = final_jobs(study, session.project)
    if jobs:
        objective, direction = next(iter(session.project.search.objectives.items()))
        finals = lay_out_finals(session.storage, finals_name(session.name), jobs, direction, objective)
        worker.progress.begin_finals(finals)
        if queue.unfinished(finals):
            worker.progress.phase(_finals_text(jobs))
        worker.work(finals, lambda trial: run_final(worker, finals, trial))


def _finals_text(jobs: Sequence[queue.TrialJob]) -> str:
    configurations = len({job.attributes["trial"] for job in jobs})
    return f"finals: {configurations} configurations, each trained again with {len(jobs) // configurations} other seeds"


def in_this_process(session: Session, study: optuna.Study) -> None:
    """The engine of a study with one worker."""
    work_through(worker_of(session), session, study)


def worker_of(session: Session, number: int = 0) -> Worker:
    """A worker in this process."""
    return Worker(session.project, session.store, session.parent, session.progress, number=number)
