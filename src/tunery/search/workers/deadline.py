"""How long a trial has taken, the attempts before this one included, and the alarm when that is too long."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna

from tunery.errors import Interrupted, TimedOut
from tunery.search.study.rows import SECONDS
from tunery.training.stop import SignalHandler

# So much of an attempt is forgotten at most where its worker was killed; each note is a write to the storage.
_SECONDS_BETWEEN_NOTES = 10.0
_SECONDS_BETWEEN_RINGS = 1.0


class Deadline:
    """Counts a slot's seconds; begins when it is made."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.before = float(trial.user_attrs.get(SECONDS, 0.0))
        self._began = self._noted = time.monotonic()

    def note(self) -> None:
        """Write down what the slot has cost so far; a trial that others have ended meanwhile is left alone."""
        self._noted = time.monotonic()
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._trial.set_user_attr(SECONDS, self.before + self._noted - self._began)

    def note_now_and_then(self) -> None:
        """The same, not at every step: a worker that is killed says nothing at its end."""
        if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
            self.note()


@contextmanager
def deadline(seconds: float | None, spent: float = 0.0) -> Iterator[None]:
    """Raise TimedOut in the main thread when time is up, at whatever line it then is; again where that was swallowed.

    Nothing is raised in other threads, or where there is no SIGALRM (Windows).

    Args:
        seconds: How long the work may take; None: as long as it takes.
        spent: What earlier attempts have used of it.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    if spent >= seconds:
        raise TimedOut(seconds)

    def ring(_: str) -> None:
        # While the first one is on its way, a second would only interrupt what cleans up after it.
        if not _comes_from_alarm(sys.exception()):
            raise TimedOut(seconds)

    with SignalHandler(ring, ["SIGALRM"]):
        signal.setitimer(signal.ITIMER_REAL, seconds - spent, _SECONDS_BETWEEN_RINGS)
        try:
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (TimedOut, Interrupted):
            raise
        except Exception as error:  # what a library made of the alarm
            if _comes_from_alarm(error):
                raise TimedOut(seconds) from error
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _comes_from_alarm(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, TimedOut):
        error = error.__context__
    return error is not None
