"""A worker in a process of its own: python -m tunery.search.workers.process_main, with its spec on standard input."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tunery.openmp import wait_briefly


def main(spec: dict[str, Any]) -> None:
    """Run a study's trials.

    Args:
        spec: From `pool.worker_spec`.
    """
    from tunery.config.load import project_from
    from tunery.search.session import Session, StudyOptions, run_all
    from tunery.search.space.known_good import known_good
    from tunery.search.study.progress import StudyProgress
    from tunery.search.study.storage import open_storage
    from tunery.search.study.study import create_or_load
    from tunery.search.worker import name_of_process
    from tunery.tracking.store import connect

    project = project_from(spec["project"], spec["study"], Path(spec["folder"]))
    store = connect(spec["tracking_uri"], project.name)
    storage = open_storage(spec["url"])
    study = create_or_load(storage, project, spec["study"], known_good(project, store))
    progress = StudyProgress(project)
    session = Session(project, StudyOptions(), study, spec["url"], store, spec["parent"], progress, spec["until"])
    worker = session.worker()
    worker.name = name_of_process(os.getpid(), spec["token"])
    run_all(worker, session)


def run() -> None:
    """Read the spec, follow the parent, and end with an exit code that the parent reports."""
    from tunery.errors import Interrupted, TuneryError
    from tunery.search.workers.follow_parent import follow_parent
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
