"""A child process that ends when its parent does, even if that was killed."""

from __future__ import annotations

import os
import signal
import sys
import threading


def follow_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Stop as on a signal when standard input, which the parent holds open, comes to its end.

    However the parent dies, the system closes its files; a check of the parent's id would have to be repeated.
    """

    def wait() -> None:
        while sys.stdin.read(1):
            pass
        os.kill(os.getpid(), by)

    threading.Thread(target=wait, daemon=True).start()
