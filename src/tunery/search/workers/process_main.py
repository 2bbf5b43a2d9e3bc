"""A worker in a process of its own: python -m tunery.search.workers.process_main, with its spec on standard input."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tunery.openmp import wait_briefly

# Time for a checkpoint; and after a second signal, on which a worker stops at once, for its run in MLflow to end. Then
# it is killed: nothing controls it any more, and it would keep its card.
_PATIENCE_SECONDS = (120.0, 30.0)


def start_worker(
    spec: Mapping[str, Any], environment: Mapping[str, str], errors: IO[str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start a worker's process, which ends when this one does; and the name by which its trials are known.

    Args:
        spec: From a `WorkerPool`.
        environment: Laid over that of this process.
        errors: Its standard error; by default this process's.
    """
    # `ray start` blocks SIGINT for whatever comes of it, and a process inherits that: Ctrl-C would not arrive.
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunery.search.workers.process_main"],
            stdin=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec) + "\n")
    process.stdin.flush()
    return process, _name(spec, process.pid)


def _name(spec: Mapping[str, Any], pid: int) -> str:
    """As any worker's, but for the token: its parent knows it, too."""
    return f"{socket.gethostname()}:{spec['token']}:{pid}"


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


def main(spec: Mapping[str, Any]) -> None:
    """Run a study's trials."""
    from tunery.config.load import project_from
    from tunery.search.packing import run_session
    from tunery.search.session import Session, StudyOptions
    from tunery.search.space.known_good import known_good
    from tunery.search.study.progress import StudyProgress
    from tunery.search.study.storage import open_storage
    from tunery.search.study.study import create_or_load
    from tunery.tracking.store import connect

    project = project_from(spec["project"], spec["study"], Path(spec["folder"]))
    store = connect(spec["tracking_uri"], project.name)
    study = create_or_load(open_storage(spec["url"]), project, spec["study"], known_good(project, store))
    progress = StudyProgress(project)
    session = Session(project, StudyOptions(), study, spec["url"], store, spec["parent"], progress, spec["until"])
    run_session(session, _name(spec, os.getpid()))


def run() -> None:
    """Read the spec, follow the parent, and end with an exit code that the parent reports."""
    from tunery.errors import Interrupted, TuneryError
    from tunery.tracking.redact import redact

    wait_briefly()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell started the command with &
    spec = json.loads(sys.stdin.readline())
    follow_parent(signal.Signals(spec.get("orphaned_by", signal.SIGTERM)))
    try:
        main(spec)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)
    except TuneryError as error:
        print(redact(str(error)), file=sys.stderr)  # noqa: T201 - the parent's standard error
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
