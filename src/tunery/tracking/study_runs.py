"""The runs of a study's trials, looked at from outside: which can be gone on with, which were left RUNNING."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.errors import Pruned
from tunery.records.scores import TaskResult
from tunery.tracking.entities import entity_name, write_samples
from tunery.tracking.run import ERROR, FAILURE, forget_failure, run_end_of
from tunery.tracking.scores import task_scores
from tunery.tracking.search import is_tagged, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from tunery.tracking.search import Run


def children(store: Store, parent: str) -> list[Run]:
    """Every run that belongs to a study, newest first."""
    with refusals(store.uri):
        experiment = store.client.get_run(parent).info.experiment_id
    return list(search_runs(store, is_tagged("mlflow.parentRunId", parent), within=[experiment]))


def run_tagged(store: Store, tag: str, value: str) -> str | None:
    """The first run with a tag, in whatever experiment; None where there is none."""
    found = next(search_runs(store, is_tagged(tag, value), oldest_first=True, limit=1), None)
    return None if found is None else str(found.info.run_id)


def unfinished_child(store: Store, parent: str, run_id: str | None, study: str, trial: str) -> str | None:
    """The run in which a trial was begun, unless it has finished or is gone.

    Args:
        parent: The study's run.
        run_id: As the trial knows it; None where its worker died before it could say.
        study, trial: The tags by which such a run is found.
    """
    for run in children(store, parent):
        tags = run.data.tags
        by_tags = (tags.get("tunery.study"), tags.get("tunery.trial")) == (study, trial)
        same = by_tags if run_id is None else run.info.run_id == run_id
        if same and run.info.status != "FINISHED":
            return str(run.info.run_id)
    return None


def finish_child(store: Store, run_id: str, pruned: Pruned | None = None) -> None:
    """Mark a run as FINISHED whose worker died after all was logged, or after its pruner had ended it."""
    with refusals(store.uri):
        for tag, text in run_end_of(pruned).tags.items():
            store.client.set_tag(run_id, tag, text)
        run = store.client.get_run(run_id)
        if run.info.status != "FINISHED":
            forget_failure(store, run)
            store.client.set_terminated(run_id, "FINISHED")


def end_abandoned(
    store: Store, parent: str, worked_on: Callable[[], Mapping[str, bool]], unknown_seconds: float = 0.0
) -> list[str]:
    """Mark runs that nobody works on any more as KILLED; the runs that were left RUNNING.

    Args:
        parent: The study's run.
        worked_on: Whether a worker has a run, for each that a trial knows. Asked after MLflow: a run that began in
            between is not among those looked at.
        unknown_seconds: So young a run that no trial knows is left alone: a worker elsewhere has just made it.
    """
    running = [run.info for run in children(store, parent) if run.info.status == "RUNNING"]
    theirs = worked_on()
    youngest = (time.time() - unknown_seconds) * 1000
    left = [run.run_id for run in running if not theirs.get(run.run_id, run.start_time > youngest)]
    _mark_killed(store, left)
    return left


def end_study(store: Store, parent: str) -> None:
    """Mark a study's run, and those of its trials, as KILLED where they are RUNNING: nobody goes on with it."""
    end_abandoned(store, parent, dict)
    with refusals(store.uri):
        if store.client.get_run(parent).info.status == "RUNNING":
            _mark_killed(store, [parent])


def _mark_killed(store: Store, run_ids: Sequence[str]) -> None:
    with refusals(store.uri):
        for run_id in run_ids:
            store.client.set_tag(run_id, FAILURE, "killed")
            store.client.set_tag(run_id, ERROR, "its worker died")
            store.client.set_terminated(run_id, "KILLED")


def log_locked(store: Store, run_id: str, results: Mapping[str, TaskResult], score: float | None) -> None:
    """Log scores on locked items into a run that has finished: locked/score, locked/<task>/<metric>, and samples."""
    metrics = {} if score is None else {"locked/score": score}
    for task, result in results.items():
        metrics |= task_scores(f"locked/{task}", result)
    with refusals(store.uri), TemporaryDirectory(prefix="tunery-samples-") as place:
        for key, value in metrics.items():
            store.client.log_metric(run_id, entity_name(key), value)
        for path in write_samples(results, Path(place)):
            store.client.log_artifact(run_id, str(path), "samples/locked")
