"""Runs that stand RUNNING: on which of them a process works, and the end of those on which none does."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tunery.errors import Interrupted
from tunery.tracking.aliases import APPLIED
from tunery.tracking.process import has_ended
from tunery.tracking.run import ERROR, FAILURE, KIND, PROCESS, PROJECT
from tunery.tracking.search import is_tagged, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from tunery.tracking.search import Run

# A run writes a point every few seconds while it trains, and a sample of the machine every ten. A process on another
# host cannot be looked up: after a day without a word it is taken for dead.
SILENT_SECONDS = 24 * 3600.0
_PARENT = "mlflow.parentRunId"


class Life(StrEnum):
    """What is known of a run's process."""

    WORKING = "its process works"
    ENDED = "its process has ended"
    SILENT = "no sign for a day"
    UNKNOWN = "its process runs elsewhere, or is unknown"


@dataclass(frozen=True)
class OpenRun:
    """A run that stands RUNNING."""

    run_id: str
    name: str
    kind: str
    project: str
    parent: str | None
    last_sign_ms: int  # its last point, or its start
    life: Life
    process: str | None = None  # what its process wrote of itself

    @property
    def abandoned(self) -> bool:
        """Whether surely nobody works on it."""
        return self.life in (Life.ENDED, Life.SILENT)


def open_runs(store: Store, kind: str | None = None, project: str | None = None) -> list[OpenRun]:
    """Every run of tunery's that stands RUNNING, newest first; a study works while one of its trials does.

    Raises:
        TrackingError: If the store does not answer.
    """
    wanted = {KIND: kind, PROJECT: project}
    clauses = [is_tagged(tag, value) for tag, value in wanted.items() if value is not None]
    running = search_runs(store, "attributes.status = 'RUNNING'", f"tags.`{KIND}` != ''", *clauses)
    found = [_open_run(run, time.time() * 1000) for run in running]
    kept = {one.parent for one in found if not one.abandoned}
    return [replace(one, life=Life.WORKING) if one.abandoned and one.run_id in kept else one for one in found]


def close(store: Store, run: OpenRun) -> str:
    """End an abandoned run at its last sign of life; its new status.

    KILLED, with the reason as its tags; FINISHED if it is a promotion whose aliases moved. A run that has ended or was
    resumed since it was looked at stays as it is.
    """
    with refusals(store.uri):
        now = store.client.get_run(run.run_id)
        if now.info.status != "RUNNING" or now.data.tags.get(PROCESS) != run.process:
            return str(now.info.status)
        moved = run.kind == "promotion" and APPLIED in now.data.tags
        status = "FINISHED" if moved else "KILLED"
        if not moved:
            store.client.set_tag(run.run_id, FAILURE, Interrupted.failure)
            store.client.set_tag(run.run_id, ERROR, str(run.life))
        store.client.set_terminated(run.run_id, status, run.last_sign_ms)
    return status


def _open_run(run: Run, now_ms: float) -> OpenRun:
    tags = run.data.tags
    last = max([int(run.info.start_time), *(int(point.timestamp) for point in run.data._metric_objs)])
    ended = has_ended(tags.get(PROCESS))
    life = Life.WORKING if ended is False else Life.ENDED
    if ended is None:
        life = Life.SILENT if now_ms - last > SILENT_SECONDS * 1000 else Life.UNKNOWN
    return OpenRun(
        run_id=str(run.info.run_id),
        name=str(run.info.run_name or ""),
        kind=tags.get(KIND, ""),
        project=tags.get(PROJECT, ""),
        parent=tags.get(_PARENT),
        last_sign_ms=last,
        life=life,
        process=tags.get(PROCESS),
    )
