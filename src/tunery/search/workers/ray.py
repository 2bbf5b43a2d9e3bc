"""Workers on a Ray cluster: an actor each, resident on its node; a lost one is replaced, and its trial requeued.

Ray finds the places and tells when one is lost. What a worker does, how it stops and how its trials are counted is as
on one host: see team.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project
from tunery.runs.workdir import home
from tunery.search.workers.local import shared
from tunery.search.workers.pool import StopCount, Team, cause, order_for
from tunery.search.workers.ray_actor import RayWorker
from tunery.search.workers.ray_cluster import (
    DEFAULT_ADDRESS,
    Share,
    connect,
    disconnect,
    gpus_each,
    require_shared_stores,
    share,
)
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    import optuna

    from tunery.search.session import Engine, Session, StudyOptions

# A worker whose actor is lost is killed by its node in this time; its trial is not touched before.
_SECONDS_TO_DIE = 1.0
_SECONDS_TO_BE_PLACED = 30.0
# Stands for the exit code that a lost worker has not; no signal has this number.
_LOST = -1000


@contextmanager
def on_cluster(project: Project, options: StudyOptions, storage: str, tracking: str) -> Iterator[Engine]:
    """An engine of which every worker has been found to have a place.

    Args:
        project: What is searched.
        options: Address, workers, GPUs for each.
        storage: Optuna's.
        tracking: MLflow's URI.

    Raises:
        ConfigError: If the cluster does not answer, is too small, or cannot reach a store.
    """
    nodes = connect(options.address or DEFAULT_ADDRESS)
    try:
        require_shared_stores(nodes, storage, tracking)
        each = share(nodes, options.workers, gpus_each(nodes, project.training.device, options.gpus_per_worker))
        yield lambda session, study: _work(session, study, each)
    finally:
        disconnect()


def _work(session: Session, study: optuna.Study, each: Share) -> None:
    with shared(session.url) as url, StopCount() as stop:
        crew = _Crew(session, study, url, each)
        try:
            crew.run(stop)
        finally:
            crew.end()


@dataclass
class _Place:
    """An actor, from when it was asked for.

    Args:
        actor: Ray's handle.
        answer: Of the call that was made last.
        name: Of its worker; None until Ray has placed it.
        since: By time.monotonic().
        waits: Whether a person was told that it has no place yet.
    """

    actor: Any
    answer: Any
    name: str | None = None
    since: float = field(default_factory=time.monotonic)
    waits: bool = False


@dataclass
class _Crew(Team[_Place]):
    """An actor for each worker, with its share of the cluster."""

    each: Share

    def end(self) -> None:
        """Kill every actor, and when their processes are gone let others go on with their trials."""
        left = list(self.places.values())
        for place in left:
            _kill(place)
        self.places.clear()
        if any(place.name for place in left):
            time.sleep(_SECONDS_TO_DIE)
        for place in left:
            self._requeue(place.name, died=False)

    def _ask_for(self, number: int) -> None:
        import ray

        actor = (
            ray.remote(RayWorker)
            # Replaced here rather than by Ray: the trial of a lost worker has to be given to another first.
            .options(num_cpus=self.each.cpus, num_gpus=self.each.gpus, max_restarts=0, scheduling_strategy="SPREAD")
            .remote()
        )
        order = order_for(self.session, self.url, number)
        self.places[number] = _Place(actor, actor.start.remote(order, _environment(self.each)))

    def _look(self, number: int, place: _Place, *, stopping: bool) -> None:
        if place.name is None:
            self._look_whether_placed(number, place, stopping=stopping)
            return
        code, words = self._answer(place) or (None, "")
        if code is not None:
            self._ended(number, place, code, words, stopping=stopping)

    def _look_whether_placed(self, number: int, place: _Place, *, stopping: bool) -> None:
        name = self._answer(place)
        if isinstance(name, tuple):  # it is lost already
            self._ended(number, place, *name, stopping=stopping)
        elif name is not None:
            place.name = name
        elif not place.waits and time.monotonic() - place.since > _SECONDS_TO_BE_PLACED:
            place.waits = True
            self.session.progress.step(f"worker {number} waits for a place: the cluster is full, or has lost a node")

    def _answer(self, place: _Place) -> Any:
        """What an actor answered, and the next question to it; None while it did not."""
        import ray

        if not ray.wait([place.answer], timeout=0)[0]:
            return None
        try:
            answer = ray.get(place.answer)
        except ray.exceptions.ActorUnavailableError:  # it may be back
            answer = None
        except ray.exceptions.RayError as error:
            return _LOST, str(error)
        place.answer = place.actor.look.remote()
        return answer

    def _ended(self, number: int, place: _Place, code: int, words: str, *, stopping: bool) -> None:
        del self.places[number]
        _kill(place)
        if code == _LOST and place.name is not None:
            time.sleep(_SECONDS_TO_DIE)
        begun = self._requeue(place.name, died=not stopping)
        if code == 0:
            self._dismiss_those_without_place()
        elif not stopping:
            self._replace(number, code, _cause(code, words), begun=begun)

    def _dismiss_those_without_place(self) -> None:
        """Nothing is left to do for them."""
        for number, place in list(self.places.items()):
            if place.name is None:
                _kill(self.places.pop(number))

    def _pass_on(self) -> None:
        self._dismiss_those_without_place()
        for place in self.places.values():
            place.actor.interrupt.remote()


def _kill(place: _Place) -> None:
    import ray

    with suppress(ray.exceptions.RayError, ValueError):
        ray.kill(place.actor)


def _environment(each: Share) -> dict[str, str]:
    """What a worker must have in common with this process, whatever its node has set."""
    prefixes, names = ("TUNERY_", "MLFLOW_"), ("HF_TOKEN", "HF_HUB_OFFLINE")
    passed = {key: value for key, value in os.environ.items() if key.startswith(prefixes) or key in names}
    passed.pop("MLFLOW_RUN_ID", None)  # that of the study, which is this process's
    cards = {} if each.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return {**passed, **cards, "TUNERY_HOME": str(home()), "OMP_NUM_THREADS": str(each.cpus)}


def _cause(code: int, words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    said = redact(" ".join(lines[-1].split()))[:300] if lines else ""
    what = "its actor or node is gone" if code == _LOST else cause(code)
    return f"{what}: {said}" if said else what
