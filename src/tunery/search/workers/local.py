"""Several workers on one host, a process each; meanwhile a study's file is reached through Optuna's proxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault
from tunery.search.session import Session
from tunery.search.study.storage import is_one_host
from tunery.search.workers.pool import StopCount, WorkerPool, exit_reason
from tunery.search.workers.process_main import start_worker

_Process = tuple[subprocess.Popen[str], str]  # a worker's, and the name by which its trials are known
# A worker in native code handles no signal: it is killed after so long.
_SECONDS_TO_END = 10.0


def run_in_processes(session: Session) -> None:
    """The executor of a study with several workers on this host.

    Raises:
        ConfigError: If there are more workers than cards.
        RunStopped: If workers cannot be kept alive.
        Interrupted: After a signal, when every worker has written a checkpoint and ended.
    """
    each = worker_environments(session.project, session.options.workers)
    with shared_storage(session.url) as url, StopCount() as stop, closing(_ProcessPool(session, url, each)) as pool:
        pool.run(stop)


@dataclass
class _ProcessPool(WorkerPool[_Process]):
    """A process for each worker, with its part of the environment."""

    environments: Sequence[Mapping[str, str]]

    def close(self) -> None:
        """Stop every process, by force if it does not end, and leave its trial to others."""
        for process, _ in self.members.values():
            process.terminate()
        for process, name in self.members.values():
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._requeue(name, died=False)

    def _start(self, number: int) -> None:
        self.members[number] = start_worker(self._spec(), self.environments[number])

    def _poll(self, number: int, member: _Process, *, stopping: bool) -> None:
        process, name = member
        code = process.poll()
        if code is None:
            return
        del self.members[number]
        begun = self._requeue(name, died=not stopping)
        if code != 0 and not stopping:
            self._replace(number, code, exit_reason(code), begun=begun)

    def _interrupt(self) -> None:
        for process, _ in self.members.values():
            process.send_signal(signal.SIGINT)


def worker_environments(project: Project, count: int) -> list[dict[str, str]]:
    """Environment of each of `count` workers: a card of its own, or its share of the processor's threads.

    Raises:
        ConfigError: If there are more workers than cards.
    """
    from tunery.models.device import resolve_device

    if resolve_device(project.training.device) == "cuda":
        import torch

        listed = [str(card) for card in range(torch.cuda.device_count())]
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = [card.strip() for card in named.split(",")][: len(listed)] if named else listed
        if count > len(cards):
            rule = f"at most {len(cards)}, one per card"
            raise ConfigError("tune", Fault("--workers", rule, count, "Use fewer, or training.device: cpu."))
        return [{"CUDA_VISIBLE_DEVICES": card} for card in cards[:count]]
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(count)]


@contextmanager
def shared_storage(url: str) -> Iterator[str]:
    """An address that several processes can use: for a file, that of a proxy in front of it."""
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
