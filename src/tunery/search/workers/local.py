"""Several workers on one host, a process each; meanwhile a study's file is reached through Optuna's proxy."""

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

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault
from tunery.search.session import Session
from tunery.search.study.storage import is_one_host
from tunery.search.worker import name_of_process
from tunery.search.workers.pool import StopCount, WorkerPool, exit_reason, worker_spec

# A worker in native code handles no signal: it is killed after so long.
_SECONDS_TO_END = 10.0


def run_in_processes(session: Session) -> None:
    """The executor of a study with several workers on this host.

    Raises:
        ConfigError: If there are more workers than cards.
        RunStopped: If workers cannot be kept alive.
        Interrupted: After a signal, when every worker has written a checkpoint and ended.
    """
    environments = worker_environments(session.project, session.options.workers)
    with shared_storage(session.url) as url, StopCount() as stop:
        pool = _ProcessPool(session, url, environments)
        try:
            pool.run(stop)
        finally:
            pool.close()


@dataclass(frozen=True)
class _Process:
    """A worker's process, and the name by which its trials are known."""

    process: subprocess.Popen[str]
    name: str


@dataclass
class _ProcessPool(WorkerPool[_Process]):
    """A process for each worker, with its part of the environment."""

    environments: Sequence[Mapping[str, str]]

    def close(self) -> None:
        """Stop every process, by force if it does not end, and leave its trial to others."""
        for member in self.members.values():
            member.process.terminate()
        for member in self.members.values():
            try:
                member.process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            self._requeue(member.name, died=False)

    def _start(self, number: int) -> None:
        environment = {**os.environ, **self.environments[number]}
        command = [sys.executable, "-m", "tunery.search.workers.process_main"]
        # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        assert process.stdin is not None
        spec = worker_spec(self.session, self.url)
        process.stdin.write(json.dumps(spec) + "\n")
        process.stdin.flush()
        self.members[number] = _Process(process, name_of_process(process.pid, spec["token"]))

    def _poll(self, number: int, member: _Process, *, stopping: bool) -> None:
        code = member.process.poll()
        if code is None:
            return
        del self.members[number]
        begun = self._requeue(member.name, died=not stopping)
        if code != 0 and not stopping:
            self._replace(number, code, exit_reason(code), begun=begun)

    def _interrupt(self) -> None:
        for member in self.members.values():
            member.process.send_signal(signal.SIGINT)


def worker_environments(project: Project, count: int) -> list[dict[str, str]]:
    """Environment of each of `count` workers: a card of its own, or its share of the processor's threads.

    Raises:
        ConfigError: If there are more workers than cards.
    """
    from tunery.models.device import resolve_device

    if resolve_device(project.training.device) == "cuda":
        cards = _cards()
        if count > len(cards):
            rule = f"at most {len(cards)}, one per card"
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
def shared_storage(url: str) -> Iterator[str]:
    """An address that several processes can use: for a file, that of a proxy in front of it.

    Source: optuna.storages.run_grpc_proxy_server
    """
    if not is_one_host(url):
        yield url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tunery.search.workers.proxy_main", url, str(port)]
    proxy = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        proxy.terminate()
        proxy.wait()
