"""Several workers on one host: a process each, kept alive; a file of a study lies behind Optuna's proxy meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault
from tunery.search.study.storage import is_one_host
from tunery.search.workers.pool import StopCount, Team, cause, order_for
from tunery.search.workers.worker import name_of_process

if TYPE_CHECKING:
    from tunery.search.session import Session

# A worker in native code looks at no signal: it is killed after so long.
_SECONDS_TO_END = 10.0


def in_processes(session: Session, study: optuna.Study) -> None:
    """The engine of a study with several workers on this host.

    Raises:
        ConfigError: If there are more workers than cards.
        RunStopped: If workers cannot be kept alive.
        Interrupted: After a signal, when every worker has written a checkpoint and ended.
    """
    places = places_for(session.project, session.options.workers)
    with shared(session.url) as url, StopCount() as stop:
        team = _Team(session, study, url, places)
        try:
            team.run(stop)
        finally:
            team.end()


@dataclass(frozen=True)
class _Place:
    """A worker's process, and the name by which its trials are known."""

    process: subprocess.Popen[str]
    name: str


@dataclass
class _Team(Team[_Place]):
    """A process for each worker, with its part of the environment."""

    environments: Sequence[Mapping[str, str]]

    def end(self) -> None:
        """Stop every process, by force where it does not listen, and let others go on with its trial."""
        for place in self.places.values():
            place.process.terminate()
        for place in self.places.values():
            try:
                place.process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                place.process.kill()
                place.process.wait()
            self._requeue(place.name, died=False)

    def _ask_for(self, number: int) -> None:
        environment = {**os.environ, **self.environments[number]}
        command = [sys.executable, "-m", "tunery.search.workers.process_main"]
        # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        assert process.stdin is not None
        order = order_for(self.session, self.url, number)
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        self.places[number] = _Place(process, name_of_process(process.pid, order["token"]))

    def _look(self, number: int, place: _Place, *, stopping: bool) -> None:
        code = place.process.poll()
        if code is None:
            return
        del self.places[number]
        begun = self._requeue(place.name, died=not stopping)
        if code != 0 and not stopping:
            self._replace(number, code, cause(code), begun=begun)

    def _pass_on(self) -> None:
        for place in self.places.values():
            place.process.send_signal(signal.SIGINT)


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
    command = [sys.executable, "-m", "tunery.search.workers.proxy_main", url, str(port)]
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
