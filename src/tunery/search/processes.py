"""Several workers on one host: a process each, kept alive; a file of a study lies behind Optuna's proxy meanwhile."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import optuna

from tunery.config.project import Project, resolved
from tunery.errors import ConfigError, Fault, InputError, Interrupted, RunStopped
from tunery.search import slots
from tunery.search.finals import finals_name
from tunery.search.storage import is_one_host

if TYPE_CHECKING:
    from tunery.search.tune import Session

_POLL_SECONDS = 0.5
# A worker that dies before it began a trial will do so again.
_MOST_EARLY_DEATHS = 3
# From the second signal, or the end of this process, until a worker is killed.
_SECONDS_TO_STOP = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def in_processes(session: Session, study: optuna.Study) -> None:
    """The engine of a study with several workers on this host.

    Raises:
        ConfigError: If there are more workers than cards.
        RunStopped: If workers cannot be kept alive.
        Interrupted: After a signal, when every worker has written a checkpoint and ended.
    """
    places = places_for(session.project, session.options.workers)
    with shared(session.url) as url, Stop() as stop:
        team = _Team(session, study, url, places)
        try:
            team.run(stop)
        finally:
            team.end()


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    known_trials: int


@dataclass
class _Team:
    """Processes that work through a study; one that dies is replaced, and its trial given to another."""

    session: Session
    study: optuna.Study
    url: str
    places: Sequence[Mapping[str, str]]
    workers: dict[int, _Worker] = field(default_factory=dict)
    early_deaths: int = 0

    def run(self, stop: Stop) -> None:
        for number in range(len(self.places)):
            self._start(number)
        passed_on, until = 0, math.inf
        while self.workers and time.monotonic() < until:
            if stop.count > passed_on:
                passed_on = stop.count
                self._pass_on(stop)
                until = time.monotonic() + _SECONDS_TO_STOP if stop.count > 1 else math.inf
            for number, worker in list(self.workers.items()):
                if (code := worker.process.poll()) is not None:
                    self._ended(number, worker, code, stopping=bool(stop.count))
            for one in studies_of(self.session, self.study):
                self.session.progress.look(one)
            time.sleep(_POLL_SECONDS)
        if stop.count:
            raise Interrupted(stop.name, 0, resumable=True)

    def end(self) -> None:
        """However this process leaves: none of its workers stays."""
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            try:
                worker.process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:  # in native code, where no signal is looked at
                worker.process.kill()
                worker.process.wait()

    def _start(self, number: int) -> None:
        environment = {**os.environ, **self.places[number]}
        command = [sys.executable, "-m", "tunery.search.worker_process"]
        # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(order_for(self.session, self.url, number)) + "\n")
        process.stdin.flush()
        self.workers[number] = _Worker(process, len(self._of(process.pid)))

    def _ended(self, number: int, worker: _Worker, code: int, *, stopping: bool) -> None:
        del self.workers[number]
        begun = self._of(worker.process.pid)
        for study, trial in begun:
            if trial.state == optuna.trial.TrialState.RUNNING:
                slots.requeue(study, trial, died=not stopping)
        if code == 0 or stopping:
            return
        if code == InputError.exit_code:
            fault = "a worker stopped for the reason above, which the next would meet too"
            raise InputError(f"study {self.session.name}", Fault(fault, advice="Mend it, and run the same command."))
        self.early_deaths = 0 if begun else self.early_deaths + 1
        if self.early_deaths >= _MOST_EARLY_DEATHS:
            raise RunStopped(f"study {self.session.name}: workers end before they begin a trial (exit code {code})")
        self.session.progress.step(f"worker {number} died ({cause(code)}); another takes its place")
        self._start(number)

    def _pass_on(self, stop: Stop) -> None:
        if stop.count == 1:
            self.session.progress.step(f"{stop.name}: workers write a checkpoint and stop; again to stop at once")
        for worker in self.workers.values():
            worker.process.send_signal(signal.SIGINT)

    def _of(self, pid: int) -> list[tuple[optuna.Study, optuna.trial.FrozenTrial]]:
        return trials_of(self.session, self.study, f"{socket.gethostname()}:{pid}")


def studies_of(session: Session, study: optuna.Study) -> list[optuna.Study]:
    """The search, and the finals if they were laid out."""
    studies = [study]
    with suppress(KeyError):
        studies.append(optuna.load_study(study_name=finals_name(session.name), storage=session.storage))
    return studies


def trials_of(
    session: Session, study: optuna.Study, worker: str
) -> list[tuple[optuna.Study, optuna.trial.FrozenTrial]]:
    """Trials of the search and of the finals that a worker, host:pid, has begun."""
    return [
        (one, trial)
        for one in studies_of(session, study)
        for trial in one.get_trials(deepcopy=False)
        if trial.user_attrs.get(slots.WORKER) == worker
    ]


class Stop:
    """Counts the signals that ask this process to stop."""

    def __init__(self) -> None:
        self.count, self.name = 0, ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count, self.name = self.count + 1, signal.Signals(number).name


def order_for(session: Session, url: str, number: int) -> dict[str, Any]:
    """All that a worker process needs to know, as plain JSON."""
    return {
        "project": resolved(session.project),
        "folder": str(session.project.folder.absolute()),
        "study": session.name,
        "url": url,
        "tracking_uri": session.store.uri,
        "parent": session.parent,
        "until": session.until,
        "number": number,
    }


def places_for(project: Project, count: int) -> list[dict[str, str]]:
    """Environment of each of `count` workers: a card of its own, or its share of the processor's threads.

    Raises:
        ConfigError: If there are more workers than cards.
    """
    from tunery.models.base import resolve_device

    if resolve_device(project.training.device) == "cuda":
        cards = _cards()
        if count > len(cards):
            rule = f"at most {len(cards)}, one a card"
            raise ConfigError("tune", Fault("--workers", rule, count, "Use fewer, or training.device: cpu."))
        return [{"CUDA_VISIBLE_DEVICES": card} for card in cards[:count]]
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(count)]


def _cards() -> list[str]:
    """The cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = [str(card) for card in range(torch.cuda.device_count())]
    return [card.strip() for card in named.split(",")][: len(listed)] if named else listed


@contextmanager
def shared(url: str) -> Iterator[str]:
    """An address that several processes can use: a file's is that of a proxy in front of it.

    Source: optuna.storages.run_grpc_proxy_server
    """
    if not is_one_host(url):
        yield url
        return
    port = _free_port()
    command = [sys.executable, "-m", "tunery.search.proxy_process", url, str(port)]
    proxy = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        proxy.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cause(code: int) -> str:
    """The signal that ended a process, or its exit code."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
