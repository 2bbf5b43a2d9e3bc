"""Time spent on optimisation alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepClock:
    """A stopwatch that validation, scoring and writing can pause.

    Args:
        seconds: Already spent, in a run that goes on.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._spent = seconds
        self._since: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        running = self._since is not None  # an outer pause stays in force
        self._spent, self._since = self.seconds, None
        try:
            yield
        finally:
            if running:
                self.start()
