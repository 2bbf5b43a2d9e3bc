"""What a Ray actor does: it keeps one worker process on its node, and reports its state.

The worker is not the actor itself: Python hands signals to a process's main thread only, which is Ray's in an actor.
A process of its own is stopped, timed and killed as a local worker is, and a crash of its libraries leaves the actor,
with its place on the node, alive. It lives from trial to trial, so that a base is loaded once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

_ERROR_CHARACTERS = 2000


class RayWorker:
    """A worker process on the node where Ray put this actor. Every call returns at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the actor

    def start(self, spec: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        """Start the worker.

        Args:
            spec: From `pool.worker_spec`.
            environment: Laid over the node's own, in which Ray has named the actor's cards.

        Returns:
            The name by which its trials are known.
        """
        # `ray start` blocks SIGINT for whatever comes of it, and a process inherits that: Ctrl-C would not arrive.
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunery.search.workers.process_main"],
                stdin=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None
        # Killed when this actor dies, not asked to stop: by then another worker may have been given its trial.
        self._process.stdin.write(json.dumps({**spec, "orphaned_by": signal.SIGKILL}) + "\n")
        self._process.stdin.flush()
        return f"{socket.gethostname()}:{spec['token']}:{self._process.pid}"  # name_of_process, without its imports

    def look(self) -> tuple[int | None, str]:
        """Its exit code, None while it runs; and the end of its standard error."""
        assert self._process is not None
        code = self._process.poll()
        return code, "" if code is None else self._end_of_errors()

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def _end_of_errors(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _ERROR_CHARACTERS))
        return self._errors.read()
