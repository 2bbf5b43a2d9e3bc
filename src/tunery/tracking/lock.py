"""A lock on a registered model, for any store: MLflow offers no lock and no transaction.

A process sets a tag with a unique name on the model, then reads the tags. If it sees no other lock tag, it holds the
lock; otherwise it deletes its own tag and tries again a little later. Two processes that set a tag at once may both
back off, but never both hold the lock: the one that reads last sees both tags.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from tunery.errors import TrackingError
from tunery.tracking.process import has_ended, this_process
from tunery.tracking.redact import redact
from tunery.tracking.store import Store

LOCK_TAG = "tunery.turn."
# Work under the lock takes under a second, but one request to a server that stalls takes 3 minutes with its retries.
# A tag that is older belongs to a dead process. Age is measured by the waiting process: clocks of two hosts may differ.
LEASE_SECONDS = 300.0
_PATIENCE_SECONDS = 2 * LEASE_SECONDS
_PAUSE_SECONDS = (0.05, 0.25)


@contextmanager
def model_lock(store: Store, name: str) -> Iterator[None]:
    """Hold the lock of a registered model, which must exist; TrackingError if others have held it for minutes."""
    mine = _acquire(store, name)
    try:
        yield
    finally:
        _release(store, name, mine)


def _acquire(store: Store, name: str) -> str:
    seen: dict[str, float] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        mine = f"{LOCK_TAG}{uuid4().hex}"  # a new name each time: a name that stays is a dead holder
        store.client.set_registered_model_tag(name, mine, this_process())
        tags = store.client.get_registered_model(name).tags
        others = {key: owner for key, owner in tags.items() if key.startswith(LOCK_TAG) and key != mine}
        if not others:
            return mine
        _release(store, name, mine)
        for key, owner in others.items():
            if has_ended(owner) or time.monotonic() - seen.setdefault(key, time.monotonic()) > LEASE_SECONDS:
                _release(store, name, key)
        time.sleep(random.uniform(*_PAUSE_SECONDS))
    told = f"other processes have been moving the aliases of {name} for minutes. Try again."
    raise TrackingError(redact(store.uri), told)


def _release(store: Store, name: str, tag: str) -> None:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # already deleted, or the store is away: others drop the tag after the lease
        store.client.delete_registered_model_tag(name, tag)
