"""Workers on a Ray cluster: an actor each, resident on its node; a lost one is replaced, and its trial requeued.

Ray places them and reports when one is lost. What a worker does, how it stops and how its trials are counted is the
same as on one host: see pool.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tunery.config.project import Project
from tunery.runs.workdir import home
from tunery.search.session import Executor, Session, StudyOptions
from tunery.search.workers import ray_cluster
from tunery.search.workers.local import shared_storage
from tunery.search.workers.pool import StopCount, WorkerPool, exit_reason
from tunery.search.workers.ray_actor import RayWorker
from tunery.tracking.redact import redact

# A worker whose actor is lost is killed by its node in this time; its trial is not requeued before.
_SECONDS_TO_DIE = 1.0
_SECONDS_TO_BE_PLACED = 30.0
# In place of an exit code, which a lost worker does not have; no signal has this number.
_LOST = -1000


@contextmanager
def ray_executor(project: Project, options: StudyOptions, storage: str, tracking: str) -> Iterator[Executor]:
    """An executor whose workers all have a place on the cluster.

    Args:
        project: What is searched.
        options: Address, workers, GPUs for each.
        storage, tracking: Addresses of Optuna's and MLflow's stores.

    Raises:
        ConfigError: If the cluster does not answer, is too small, or cannot reach a store.
    """
    nodes = ray_cluster.connect(options.address or "auto")
    import ray

    try:
        ray_cluster.require_shared_stores(nodes, storage, tracking)
        gpus = ray_cluster.gpus_each(nodes, project.training.device, options.gpus_per_worker)
        each = ray_cluster.share(nodes, options.workers, gpus)
        yield lambda session: _work(session, each)
    finally:
        ray.shutdown()  # ends actors that still run


def _work(session: Session, each: ray_cluster.Share) -> None:
    with shared_storage(session.url) as url, StopCount() as stop, closing(_ActorPool(session, url, each)) as pool:
        pool.run(stop)


@dataclass
class _Actor:
    """An actor that was requested."""

    actor: Any  # Ray's handle
    answer: Any  # of the latest call
    name: str | None = None  # of its worker; None until Ray has placed it
    since: float = field(default_factory=time.monotonic)  # when it was requested, by time.monotonic()
    waits: bool = False  # whether it was reported that it waits for a place


@dataclass
class _ActorPool(WorkerPool[_Actor]):
    """An actor for each worker, with its share of the cluster."""

    each: ray_cluster.Share

    def close(self) -> None:
        """Kill every actor, and when their processes have ended leave their trials to others."""
        left = list(self.members.values())
        for member in left:
            _kill(member)
        self.members.clear()
        if any(member.name for member in left):
            time.sleep(_SECONDS_TO_DIE)
        for member in left:
            self._requeue(member.name, died=False)

    def _start(self, number: int) -> None:
        import ray

        actor = (
            ray.remote(RayWorker)
            # Replaced here rather than by Ray: the trial of a lost worker has to be requeued first.
            .options(num_cpus=self.each.cpus, num_gpus=self.each.gpus, max_restarts=0, scheduling_strategy="SPREAD")
            .remote()
        )
        self.members[number] = _Actor(actor, actor.start.remote(self._spec(), _environment(self.each)))

    def _poll(self, number: int, member: _Actor, *, stopping: bool) -> None:
        answer = self._answer(member)
        code, words = answer if isinstance(answer, tuple) else (None, "")
        if isinstance(answer, str):
            member.name = answer
        elif code is not None:
            self._ended(number, member, code, words, stopping=stopping)
        elif not (member.name or member.waits) and time.monotonic() - member.since > _SECONDS_TO_BE_PLACED:
            member.waits = True
            self.session.progress.step(f"worker {number} waits for a place: the cluster is full, or has lost a node")

    def _answer(self, member: _Actor) -> Any:
        """What an actor answered, and ask it again; None if it has not answered yet."""
        import ray

        if not ray.wait([member.answer], timeout=0)[0]:
            return None
        try:
            answer = ray.get(member.answer)
        except ray.exceptions.ActorUnavailableError:  # it may be back
            answer = None
        except ray.exceptions.RayError as error:
            return _LOST, str(error)
        member.answer = member.actor.look.remote()
        return answer

    def _ended(self, number: int, member: _Actor, code: int, words: str, *, stopping: bool) -> None:
        del self.members[number]
        _kill(member)
        if code == _LOST and member.name is not None:
            time.sleep(_SECONDS_TO_DIE)
        begun = self._requeue(member.name, died=not stopping)
        if code == 0:
            self._drop_unplaced()
        elif not stopping:
            self._replace(number, code, _cause(code, words), begun=begun)

    def _drop_unplaced(self) -> None:
        """Cancel actors that Ray has not placed: there is nothing left for them to do."""
        for number, member in list(self.members.items()):
            if member.name is None:
                _kill(self.members.pop(number))

    def _interrupt(self) -> None:
        self._drop_unplaced()
        for member in self.members.values():
            member.actor.interrupt.remote()


def _kill(member: _Actor) -> None:
    import ray

    with suppress(ray.exceptions.RayError, ValueError):
        ray.kill(member.actor)


def _environment(each: ray_cluster.Share) -> dict[str, str]:
    """The settings of this process that a worker must share, whatever its node has set."""
    prefixes, names = ("TUNERY_", "MLFLOW_"), ("HF_TOKEN", "HF_HUB_OFFLINE")
    passed = {key: value for key, value in os.environ.items() if key.startswith(prefixes) or key in names}
    passed.pop("MLFLOW_RUN_ID", None)  # that of the study, which is this process's
    cards = {} if each.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return {**passed, **cards, "TUNERY_HOME": str(home()), "OMP_NUM_THREADS": str(each.cpus)}


def _cause(code: int, words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    said = redact(" ".join(lines[-1].split()))[:300] if lines else ""
    what = "its actor or node is gone" if code == _LOST else exit_reason(code)
    return f"{what}: {said}" if said else what
