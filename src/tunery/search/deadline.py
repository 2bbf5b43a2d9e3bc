"""An alarm when a trial takes too long."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tunery.errors import Interrupted, TimedOut
from tunery.training.stop import SignalHandler

_SECONDS_BETWEEN_ALARMS = 1.0


@contextmanager
def deadline(seconds: float | None, spent: float = 0.0) -> Iterator[None]:
    """Raise TimedOut in the main thread when time is up, at whatever line it is; again if that was swallowed.

    In other threads, and without SIGALRM (Windows), there is no alarm.

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
        # While the first alarm is on its way, a second would only interrupt what cleans up after it.
        if not _comes_from_alarm(sys.exception()):
            raise TimedOut(seconds)

    with SignalHandler(ring, ["SIGALRM"]):
        signal.setitimer(signal.ITIMER_REAL, seconds - spent, _SECONDS_BETWEEN_ALARMS)
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
