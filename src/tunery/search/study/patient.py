"""A study's database that may be away for a while: a restart must not end a study that nobody watches."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import InterfaceError, OperationalError

from tunery.errors import StorageError
from tunery.tracking.redact import redact

_LOGGER = logging.getLogger("tunery.storage")
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 1.0
# SQLite has one exception for a file that another process writes to now, and for one that is gone.
_SQLITE_MAY_PASS = ("locked", "busy", "full")
# Each is one transaction. One that is asked again after its answer was lost may be done twice: a trial that is queued
# twice counts once (see queue), and a trial that nobody knows to have begun is found silent and requeued.
_ASKED_AGAIN = (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "_create_new_trial", "_set_trial_param", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
    "get_trial_id_from_study_id_trial_number", "get_trial", "_get_trials", "_get_best_trial_id",
    "_get_stale_trial_ids",
)  # fmt: skip


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage, which asks again for up to five minutes while its database does not answer.

    After that every request fails at its first try until one succeeds, so that a study that gives up ends at once.

    Raises:
        StorageError: If the database stayed away; it names the database's own reason.
    """

    away_since: float | None = None

    def record_heartbeat(self, trial_id: int) -> None:
        """Show that a worker lives. Optuna's thread has nobody to tell that it could not."""
        with suppress(StorageError):
            self.asked(functools.partial(super().record_heartbeat, trial_id))

    def asked(self, ask: Callable[[], Any]) -> Any:
        """What the database answers, now or when it is back."""
        while True:
            try:
                answer = ask()
            except StorageInternalError as error:
                self._wait(error)
            else:
                if self.away_since is not None:
                    self.away_since = None
                    _LOGGER.warning("the study's storage answers again")
                return answer

    def _wait(self, error: StorageInternalError) -> None:
        if not _may_pass(error.__cause__):
            raise error
        now, reason = time.monotonic(), database_reason(error)
        if self.away_since is None:
            self.away_since = now
            waiting = f"waiting for it for up to {PATIENCE_SECONDS / 60:.0f} minutes"
            _LOGGER.warning("the study's storage does not answer (%s): %s", reason, waiting)
        if now - self.away_since > PATIENCE_SECONDS:
            told = f"the study's storage has not answered for {PATIENCE_SECONDS / 60:.0f} minutes ({reason})."
            raise StorageError(redact(self.url), f"{told} Run the same command to resume the study.") from error
        time.sleep(_PAUSE_SECONDS)


def database_reason(error: BaseException) -> str:
    """What the database or its driver said. Optuna calls every failure, a restart too, invalid data in the commit."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return " ".join(redact(str(getattr(cause, "orig", None) or cause)).split())[:300]


def _may_pass(cause: BaseException | None) -> bool:
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    return "sqlite" not in type(cause.orig).__module__ or any(word in str(cause.orig) for word in _SQLITE_MAY_PASS)


def _asked_again(name: str) -> Callable[..., Any]:
    method = getattr(optuna.storages.RDBStorage, name)

    @functools.wraps(method)
    def ask(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        return self.asked(functools.partial(method, self, *arguments, **named))

    return ask


for _name in _ASKED_AGAIN:
    setattr(PatientStorage, _name, _asked_again(_name))
