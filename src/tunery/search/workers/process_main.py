"""A worker in a process of its own: python -m tunery.search.workers.process_main, with its order on standard input."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tunery.openmp import wait_briefly


def main(order: dict[str, Any]) -> None:
    """Work through a study.

    Args:
        order: From `team.order_for`.
    """
    from tunery.config.load import project_from
    from tunery.search.session import Session, StudyOptions, work_through, worker_of
    from tunery.search.study.progress import StudyProgress
    from tunery.search.study.storage import open_storage
    from tunery.search.study.study import armed, join, known_configurations
    from tunery.search.workers.worker import name_of_process
    from tunery.tracking.store import connect

    project = project_from(order["project"], order["study"], Path(order["folder"]))
    store = connect(order["tracking_uri"], project.name)
    storage = open_storage(order["url"])
    extra = known_configurations(project, store)
    study = armed(join(storage, order["study"], project, extra), project, extra)
    session = Session(
        project=project,
        options=StudyOptions(),
        name=order["study"],
        url=order["url"],
        storage=storage,
        store=store,
        extra=extra,
        parent=order["parent"],
        progress=StudyProgress(project),
        until=order["until"],
    )
    worker = worker_of(session, order["number"])
    worker.name = name_of_process(os.getpid(), order["token"])
    work_through(worker, session, study)


def run() -> None:
    """Read the order, follow the parent, and end with an exit code; the parent tells the person."""
    from tunery.errors import Interrupted, TuneryError
    from tunery.search.workers.follow_parent import follow_parent
    from tunery.tracking.redact import redact

    wait_briefly()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell began the command with &
    order = json.loads(sys.stdin.readline())
    follow_parent(signal.Signals(order.get("orphaned_by", signal.SIGTERM)))
    try:
        main(order)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)
    except TuneryError as error:
        print(redact(str(error)), file=sys.stderr)  # noqa: T201 - the parent's standard error
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
