"""A Ray cluster: whether it answers, and how many workers have a place on it."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tunery.errors import ConfigError, Fault
from tunery.search.study.storage import is_one_host
from tunery.tracking.redact import redact

_SECONDS_TO_ANSWER = 20
_CONNECT = "import logging, sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, and what of it Ray may give to actors."""

    host: str  # its name; several nodes of one host share its files
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Share:
    """What one worker is given: whole threads, and a card or a part of one."""

    cpus: int
    gpus: float


def connect(address: str) -> list[Node]:
    """Connect this process to a cluster that runs.

    Args:
        address: auto, HOST:PORT of the head node, or ray://HOST:PORT.

    Raises:
        ConfigError: If Ray is not installed, or nothing answers there.
    """
    if importlib.util.find_spec("ray") is None:
        fault = 'needs Ray. Install it here and on every node: pip install "tunery[ray]".'
        raise ConfigError("--executor ray", fault)
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")  # not in the middle of a study
    _require_answer(address)
    import ray

    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_answer(address, str(error)) from error
    # No option stops the last log lines of a lost node from being printed over the study's view (Ray 2.60).
    ray._private.worker._worker_logs_enabled = False
    alive = [(found["NodeManagerHostname"], found["Resources"]) for found in ray.nodes() if found["Alive"]]
    return [Node(host, resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for host, resources in alive]


def _require_answer(address: str) -> None:
    """Connect in another process first: if nothing answers, Ray hangs for minutes and then aborts its process."""
    command = [sys.executable, "-c", _CONNECT, address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS_TO_ANSWER
        )
    except subprocess.TimeoutExpired as error:
        raise _no_answer(address, f"nothing in {_SECONDS_TO_ANSWER} seconds") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line and not line[0].isspace()]
        raise _no_answer(address, lines[-1] if lines else f"exit code {done.returncode}")


def _no_answer(address: str, reason: str) -> ConfigError:
    why = " ".join(redact(reason).split())[:300].rstrip(".")
    advice = "Start one (ray start --head), give its --address, or leave --executor ray out."
    return ConfigError("--address", f"no Ray cluster answers at {address!r} ({why}). {advice}")


def share(nodes: Sequence[Node], workers: int, gpus: float) -> Share:
    """The most threads that each of so many workers can have.

    Raises:
        ConfigError: If the cluster has no place for that many.
    """
    most = _places(nodes, 1, gpus)
    if workers > most:
        cpus, cards = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
        rule = f"at most {most}, with a CPU and {gpus:g} GPUs each: the cluster has {cpus:g} CPUs and {cards:g} GPUs"
        raise ConfigError("tune", Fault("--workers", rule, workers, "Use fewer, or add nodes."))
    widest = int(max(node.cpus for node in nodes))
    return Share(max(cpus for cpus in range(1, widest + 1) if _places(nodes, cpus, gpus) >= workers), gpus)


def _places(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    by_cards = (int(node.gpus / gpus + 1e-6) if gpus else sys.maxsize for node in nodes)
    return sum(min(int(node.cpus / cpus), cards) for node, cards in zip(nodes, by_cards, strict=True))


def gpus_each(nodes: Sequence[Node], device: str, asked: float | None) -> float:
    """GPUs for each worker: as asked, else one if the cluster has any and the project does not ask for the CPU."""
    if asked is not None:
        return asked
    return float(device == "cuda" or (device != "cpu" and any(node.gpus for node in nodes)))


def require_shared_stores(nodes: Sequence[Node], storage: str, tracking: str) -> None:
    """Refuse files as stores if workers are on several hosts.

    Raises:
        ConfigError: SQLite would be damaged, or not found.
    """
    hosts = sorted({socket.gethostname(), *(node.host for node in nodes)})
    if len(hosts) == 1:
        return
    stores = [
        ("--storage", storage, "Use postgresql://USER@HOST/NAME."),
        ("--tracking-uri", tracking, "Use http://HOST:PORT, of an `mlflow server`."),
    ]
    rule = f"a server's address: SQLite with several hosts ({', '.join(hosts[:4])}) loses work"
    faults = [Fault(option, rule, redact(uri), advice) for option, uri, advice in stores if is_one_host(uri)]
    if faults:
        raise ConfigError("--executor ray", faults)
