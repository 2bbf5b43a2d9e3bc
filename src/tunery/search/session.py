"""One command's part in a study: what was asked, and the trials of the search and then of the finals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import optuna

from tunery.config.project import Project
from tunery.runs.cache import Resident
from tunery.search.finals import final_jobs, run_final
from tunery.search.study import queue
from tunery.search.study.progress import SEARCHED, Stopwatch, StudyProgress
from tunery.search.study.storage import FINALS, is_one_host
from tunery.search.study.study import create_job_study
from tunery.search.trials import run_search_trial
from tunery.search.worker import Worker

if TYPE_CHECKING:
    from tunery.tracking.store import Store


@dataclass(frozen=True)
class StudyOptions:
    """What the command asks for beside the project."""

    study: str | None = None  # name; by default the project's
    trials: int | None = None  # in all, whatever was done before; by default search.trials
    # For the search in all, whatever was used before; trials that then run can be resumed.
    timeout_seconds: float | None = None
    workers: int = 1  # processes on this host, or actors on a Ray cluster
    storage: str | None = None  # Optuna's storage; by default search.storage, else ./optuna.db
    tracking_uri: str | None = None  # MLflow's store
    run_name: str | None = None  # of the study's run in MLflow; by default "study" and its name
    executor: Literal["local", "ray"] = "local"  # where the workers are
    address: str | None = None  # of the Ray cluster; by default the one that runs here
    gpus_per_worker: float | None = None  # that Ray gives to a worker; by default one if the cluster has any


@dataclass(frozen=True)
class Session:
    """One command's part in a study."""

    project: Project  # what is searched
    options: StudyOptions  # of the command
    study: optuna.Study  # with the project's sampler and pruner
    url: str  # of its storage
    store: Store  # MLflow's
    parent: str  # run id of the study
    progress: StudyProgress  # shows the study's progress
    until: float | None = None  # when the search's time is up, by time.time(); None if it has no limit
    resident: Resident = field(default_factory=Resident)  # for a worker in this process: tasks and rows are there

    @property
    def one_host(self) -> bool:
        """Whether only processes of this host can use the study."""
        return is_one_host(self.url)

    def worker(self) -> Worker:
        """A worker in this process."""
        return Worker(self.project, self.store, self.parent, self.progress, self.resident)


# Runs a study's trials, wherever its workers are.
Executor = Callable[[Session], None]


def run_all(worker: Worker, session: Session) -> None:
    """A worker's whole part: the trials of the search, then those of the finals."""
    study = session.study
    stopwatch = Stopwatch(study, SEARCHED)
    if session.until is not None:
        worker.until = time.monotonic() + session.until - time.time()

    def run(trial: optuna.Trial) -> list[float]:
        stopwatch.note()  # before each trial, not at the end alone: a kill must not make the search's time longer
        return run_search_trial(worker, trial)

    try:
        worker.work(study, run)
    finally:
        stopwatch.note()
    worker.until = None
    jobs = final_jobs(study, session.project)
    if jobs:
        objective, direction = next(iter(session.project.search.objectives.items()))
        finals = create_job_study(study._storage, f"{study.study_name}{FINALS}", jobs, direction, objective)
        worker.progress.skip_ended(finals)
        if queue.unfinished(finals):
            several = len({job.attributes["trial"] for job in jobs})
            said = f"{several} configurations, each trained again with {len(jobs) // several} other seeds"
            worker.progress.phase(f"finals: {said}")
        worker.work(finals, lambda trial: run_final(worker, trial))
