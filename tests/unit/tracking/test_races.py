"""Several processes at one store and one run: what one does must not spoil what another does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tunery.errors import Interrupted, TrackingError
from tunery.records.rows import DataReport, SourceReport
from tunery.tracking.run import ERROR, FAILURE, forget_failure, open_run
from tunery.tracking.store import Store
from tunery.tracking.study_runs import end_abandoned, end_study


def refuse_first(store: Store, monkeypatch: pytest.MonkeyPatch, message: str, times: int) -> None:
    """Let the store refuse datasets so often, as it does when another run adds the same one at that moment."""
    log_inputs, left = store.client.log_inputs, [times]

    def refuse(*arguments: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise MlflowException(message, error_code=1000)  # BAD_REQUEST
        log_inputs(*arguments, **named)

    monkeypatch.setattr(store.client, "log_inputs", refuse)


@pytest.mark.parametrize(
    "message",
    [
        '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"',
        "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest",
        "(pymysql.err.IntegrityError) (1062, \"Duplicate entry '1-rows' for key 'PRIMARY'\")",
    ],
)
def test_a_dataset_that_another_run_adds_at_the_same_moment_is_linked_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, message: str, report: DataReport
) -> None:
    refuse_first(store, monkeypatch, message, times=2)
    with open_run(store, "trial", "quickstart") as tracker:
        tracker.log_dataset(report)
    assert len(store.client.get_run(tracker.run_id).inputs.dataset_inputs) == 1


def test_a_dataset_that_is_refused_for_itself_is_not_insisted_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, report: DataReport
) -> None:
    refuse_first(store, monkeypatch, "the name is too long", times=1)
    with pytest.raises(TrackingError, match="too long"), open_run(store, "trial", "quickstart") as tracker:
        tracker.log_dataset(report)


def stopped_study(store: Store, run_id: str | None = None, *, leaves: bool = False) -> str:
    """A study's run after a signal; its id."""
    with suppress(Interrupted), open_run(store, "study", "quickstart", run_id) as tracker:
        tracker.accept_resume()
        if leaves:
            tracker.hand_over()
        raise Interrupted("SIGTERM", 3, resumable=True)
    return tracker.run_id


def test_a_study_that_others_go_on_with_is_not_ended_by_one_that_is_stopped(store: Store) -> None:
    run = store.client.get_run(stopped_study(store, leaves=True))
    assert run.info.status == "RUNNING"
    assert "tunery.failure" not in run.data.tags


def test_a_study_that_ends_well_forgets_that_one_of_its_processes_was_stopped(store: Store) -> None:
    with open_run(store, "study", "quickstart") as first:
        stopped_study(store, first.run_id)
        assert store.client.get_run(first.run_id).data.tags["tunery.failure"] == "killed"
    run = store.client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert not {"tunery.failure", "tunery.error"} & set(run.data.tags)


def ended(store: Store, theirs: Mapping[str, bool], unknown_seconds: float) -> bool:
    """Whether a child that is RUNNING is taken for abandoned; its id stands for "child"."""
    with open_run(store, "study", "quickstart") as parent:
        experiment = store.client.get_run(parent.run_id).info.experiment_id
        child = store.client.create_run(experiment, tags={"mlflow.parentRunId": parent.run_id}).info.run_id
        time.sleep(0.01)
        known = {child if name == "child" else name: worked_on for name, worked_on in theirs.items()}
        return end_abandoned(store, parent.run_id, lambda: known, unknown_seconds) == [child]


@pytest.mark.parametrize(
    ("theirs", "unknown_seconds", "expected"),
    [
        ({"child": True}, 0.0, False),
        ({"child": False}, 60.0, True),
        ({}, 60.0, False),  # a worker elsewhere has made it, and is about to tell its trial
        ({}, 0.0, True),
    ],
)
def test_a_run_is_ended_for_its_worker_only_if_no_worker_can_have_it(
    store: Store, theirs: dict[str, bool], unknown_seconds: float, expected: bool
) -> None:
    assert ended(store, theirs, unknown_seconds) is expected


def test_a_study_that_nobody_goes_on_with_is_ended_with_its_trials(store: Store) -> None:
    experiment = store.experiment_id()
    parent = store.client.create_run(experiment).info.run_id
    child = store.client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    end_study(store, parent)
    assert {store.client.get_run(run).info.status for run in (parent, child)} == {"KILLED"}


def test_a_study_that_has_failed_stays_so(store: Store) -> None:
    parent = store.client.create_run(store.experiment_id()).info.run_id
    store.client.set_terminated(parent, "FAILED")
    end_study(store, parent)
    assert store.client.get_run(parent).info.status == "FAILED"


@pytest.fixture
def report() -> DataReport:
    source = SourceReport("data/rows.jsonl", "alpaca", 10, 9, 1.0, "sha256:" + "ab" * 32)
    return DataReport((source,), (), {}, 8, 1, 100, {"50": 12}, (), 0.5, {})


def test_two_workers_that_resume_a_study_at_once_forget_its_failure_once(store: Store) -> None:
    run_id = stopped_study(store)
    seen_by_both = store.client.get_run(run_id)
    assert ERROR in seen_by_both.data.tags
    for _ in range(2):
        forget_failure(store, seen_by_both)
    assert not {FAILURE, ERROR} & set(store.client.get_run(run_id).data.tags)
