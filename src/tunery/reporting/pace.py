"""Lines about long work for whoever listens: how far it is, every half minute, and about how long it will still take.

Nobody listens by default. A `ContextVar` spares the many layers between a command and a batch an argument each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tunery.reporting.text import duration

QUIET_SECONDS = 30.0
"""A log gets a line at least this often."""

Say = Callable[[str], None]
_LISTENER: ContextVar[Say | None] = ContextVar("listener", default=None)


@contextmanager
def listening(say: Say) -> Iterator[None]:
    """Pass each line to `say` until the context ends."""
    token = _LISTENER.set(say)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listen(say: Say) -> None:
    """Pass each line to `say` from now on."""
    _LISTENER.set(say)


def is_heard() -> bool:
    """Whether anyone listens."""
    return _LISTENER.get() is not None


class Pace:
    """Counts what is done, and says so every half minute; work that ends sooner says nothing.

    Args:
        work: What is done, such as "scoring world_facts".
        total: How many things there are.
        noun: What they are, in the plural.
        weight: How much of one thing each unit of `advance` is: an item may be several requests.
        clock: Seconds since any moment.
    """

    def __init__(
        self, work: str, total: int, noun: str, weight: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._work, self._total, self._noun, self._weight, self._clock = work, total, noun, weight, clock
        self._units = 0
        self._began = self._said = clock()

    def advance(self, units: int = 1) -> None:
        """So many more units are done."""
        self._units += units
        done, now, say = self._units * self._weight, self._clock(), _LISTENER.get()
        if say is None or done >= self._total or now - self._said < QUIET_SECONDS:
            return
        self._said = now
        left = (now - self._began) * (self._total - done) / done
        say(f"{self._work}: {int(done)} of {self._total} {self._noun}, about {duration(left)} left")
