"""Seconds counted over several processes, in a user attribute of a study or a trial."""

from __future__ import annotations

import time
from contextlib import suppress

import optuna

# Of a study: how long its commands took in all, and their searches. Of a trial: its attempts.
ELAPSED, SEARCHED, SECONDS = "elapsed_seconds", "search_seconds", "seconds"
# At most so much is lost if a process is killed; each note is a write to the storage.
_SECONDS_BETWEEN_NOTES = 10.0


class Stopwatch:
    """Starts when it is made, at what earlier processes have noted."""

    def __init__(self, owner: optuna.Study | optuna.Trial, attribute: str) -> None:
        self._owner, self._attribute = owner, attribute
        self.before = self._stored()
        self._began = self._noted = time.monotonic()

    def note(self) -> None:
        """Store the seconds so far, unless another process has stored more or has ended the trial."""
        self._noted = time.monotonic()
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._owner.set_user_attr(self._attribute, max(self.before + self._noted - self._began, self._stored()))

    def note_now_and_then(self) -> None:
        """The same, but not at every step: for a process that may be killed."""
        if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
            self.note()

    def _stored(self) -> float:
        return float(self._owner.user_attrs.get(self._attribute, 0.0))
