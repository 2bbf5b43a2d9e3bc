"""SIGINT, SIGTERM and SIGHUP become a flag that training reads between steps; a second signal acts at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

# SIGHUP is a closed terminal or a dropped ssh line; Windows has none.
_SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)


class StopSignal:
    """A context in which the first of these signals only sets `requested`.

    Signals can be caught in the main thread only; elsewhere the context does nothing.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS if is_meant(number)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            self._restore()
            signal.raise_signal(number)  # to whoever handled it before: KeyboardInterrupt, or the end of the process
            return
        self.requested = signal.Signals(number).name

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def is_meant(number: signal.Signals) -> bool:
    """Under nohup, SIGHUP is ignored on purpose: training goes on when the terminal closes."""
    return number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
