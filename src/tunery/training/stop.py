"""Signals that ask a process to stop, turned into a function call, or into a flag that training reads between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Self

# SIGHUP is a closed terminal or a dropped ssh connection; Windows has none.
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class SignalHandler:
    """A context in which signals call a function; on leaving, the earlier handlers are restored.

    Python delivers signals to the main thread only: in any other thread the context does nothing. Under nohup SIGHUP
    is ignored on purpose, and stays ignored.

    Args:
        handle: Called with the signal's name; may raise.
        names: The signals; those that the system does not have are left out.
        unhandled_only: Leave a signal alone if something else handles or ignores it already.
    """

    def __init__(
        self, handle: Callable[[str], None], names: Sequence[str] = STOP_SIGNALS, *, unhandled_only: bool = False
    ) -> None:
        self._handle, self._unhandled_only = handle, unhandled_only
        self._signals = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._call) for one in self._signals if self._is_ours(one)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _is_ours(self, number: signal.Signals) -> bool:
        if self._unhandled_only:
            return signal.getsignal(number) is signal.SIG_DFL
        return number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN

    def _call(self, number: int, frame: FrameType | None) -> None:
        self._handle(signal.Signals(number).name)


class StopSignal(SignalHandler):
    """A context in which the first stop signal only sets `requested`; a second one acts at once."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.requested: str | None = None

    def _note(self, name: str) -> None:
        if self.requested is not None:
            self.__exit__()
            signal.raise_signal(signal.Signals[name])  # to the earlier handler: KeyboardInterrupt, or the process ends
            return
        self.requested = name
