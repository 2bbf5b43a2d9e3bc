"""One process at a time in a registered model, on any store: MLflow has no lock and no transaction to offer.

Each raises a flag, a tag of the model with a name of its own, and then looks: whoever sees no other flag goes in,
whoever sees one takes the own flag down and tries again a little later. Two that raise at once may both step back; they
cannot both go in, since of two who raise and then look the later one sees both flags.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tunery.errors import TrackingError
from tunery.tracking.redact import redact
from tunery.tracking.store import Store

FLAG = "tunery.turn."
# What is done in a turn takes less than a second, but one request to a server that stalls takes 3 minutes with its
# retries. A flag that stands for longer belongs to a process that is dead, as seen by the watcher's own clock: those of
# two hosts need not agree.
LEASE_SECONDS = 300.0
_PATIENCE_SECONDS = 2 * LEASE_SECONDS
_PAUSE_SECONDS = (0.05, 0.25)


@contextmanager
def turn(store: Store, name: str) -> Iterator[None]:
    """Be the only one to change a registered model's aliases, as long as all go through here.

    Args:
        store: MLflow's.
        name: The registered model, which must be there.

    Raises:
        TrackingError: If others are in for minutes.
    """
    mine = _raise_alone(store, name)
    try:
        yield
    finally:
        _lower(store, name, mine)


def _raise_alone(store: Store, name: str) -> str:
    """Raise a flag and see no other; its name."""
    seen: dict[str, float] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        mine = f"{FLAG}{uuid4().hex}"  # another each time: one that is seen again and again stands still
        store.client.set_registered_model_tag(name, mine, json.dumps(_owner()))
        others = {key: owner for key, owner in _flags(store, name).items() if key != mine}
        if not others:
            return mine
        _lower(store, name, mine)
        for key, owner in others.items():
            if _is_dead(owner) or time.monotonic() - seen.setdefault(key, time.monotonic()) > LEASE_SECONDS:
                _lower(store, name, key)
        time.sleep(random.uniform(*_PAUSE_SECONDS))
    raise TrackingError(redact(store.uri), f"others have been moving the aliases of {name} for minutes. Try again.")


def _flags(store: Store, name: str) -> dict[str, str]:
    tags = store.client.get_registered_model(name).tags
    return {key: value for key, value in tags.items() if key.startswith(FLAG)}


def _lower(store: Store, name: str, flag: str) -> None:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # gone already, or the store is: then it is taken for dead after the lease
        store.client.delete_registered_model_tag(name, flag)


def _owner() -> dict[str, object]:
    return {"host": _host(), "pid": os.getpid()}


def _is_dead(owner: str) -> bool:
    """Whether the flag's process was here and is not any more; of another host nobody can tell."""
    import psutil

    try:
        told = json.loads(owner)
        return told["host"] == _host() and not psutil.pid_exists(int(told["pid"]))
    except (ValueError, KeyError, TypeError):
        return False


def _host() -> str:
    """This host and, in it, this space of process ids: two containers may have the same host name."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(space) if space.exists() else ''}".strip()
