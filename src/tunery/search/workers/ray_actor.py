"""What a Ray actor does: it keeps one worker process on its node, and reports its state.

The worker is not the actor itself: Python hands signals to a process's main thread only, which is Ray's in an actor.
A process of its own is stopped, timed and killed as a local worker is, and a crash of its libraries leaves the actor,
with its place on the node, alive. It lives from trial to trial, so that a base is loaded once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from tunery.search.workers.process_main import start_worker

_ERROR_CHARACTERS = 2000


class RayWorker:
    """A worker process on the node where Ray put this actor. Every call returns at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the actor

    def start(self, spec: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        """Start the worker, its environment laid over the node's, in which Ray has named its cards; its name."""
        # Killed when this actor dies, not asked to stop: by then another worker may have been given its trial.
        spec = {**spec, "orphaned_by": signal.SIGKILL}
        self._process, name = start_worker(spec, environment, self._errors)
        return name

    def look(self) -> tuple[int | None, str]:
        """Its exit code, None while it runs; and the end of its standard error."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None, ""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _ERROR_CHARACTERS))
        return code, self._errors.read()

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
