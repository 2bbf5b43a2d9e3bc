"""A child process that ends when its parent does, even if that was killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

# Time for a checkpoint; and after a second signal, on which a worker stops at once, for its run in MLflow to end. Then
# it is killed: nothing controls it any more, and it would keep its card.
_PATIENCE_SECONDS = (120.0, 30.0)


def follow_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Stop as on a signal when standard input, which the parent holds open, comes to its end.

    However the parent dies, the system closes its files; the parent's id would have to be polled.

    Args:
        by: The signal; sent twice, and then SIGKILL, if the process does not end.
    """

    def wait() -> None:
        while sys.stdin.read(1):
            pass
        for patience in _PATIENCE_SECONDS:
            os.kill(os.getpid(), by)
            time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
