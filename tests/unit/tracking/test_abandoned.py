"""Runs that stand RUNNING: whose process works, whose has ended, and whose nobody knows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tunery.tracking import abandoned, process
from tunery.tracking.abandoned import Life, close, open_runs
from tunery.tracking.process import has_ended, host, this_process
from tunery.tracking.run import PROCESS, open_run
from tunery.tracking.store import Store

ELSEWHERE = json.dumps({"host": "another", "pid": 1, "started": 1.0})


def ended_process() -> str:
    """What a process wrote that has ended."""
    code = "from tunery.tracking.process import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def left_running(store: Store, process: str | None, *, kind: str = "train", parent: str | None = None) -> str:
    tags = {"tunery.kind": kind, "tunery.project": "quickstart", "mlflow.parentRunId": parent, PROCESS: process}
    known = {key: value for key, value in tags.items() if value is not None}
    return str(store.client.create_run(store.experiment_id(), tags=known).info.run_id)


def lives(store: Store) -> dict[str, Life]:
    return {run.run_id: run.life for run in open_runs(store)}


def test_a_process_is_known_by_host_id_and_start() -> None:
    mine = json.loads(this_process())
    assert has_ended(json.dumps(mine)) is False
    assert has_ended(json.dumps({**mine, "started": mine["started"] - 60})) is True  # its id was given again
    assert has_ended(ended_process()) is True
    assert mine["host"] == host()


def test_a_process_works_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = this_process()
    start = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: start + 3600)  # as Linux tells it after that
    assert has_ended(mine) is False


def test_a_process_from_before_the_machine_was_started_again_has_ended() -> None:
    mine = json.loads(this_process())
    assert has_ended(json.dumps({**mine, "boot": "another"})) is True


def test_machines_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("another\n")
    mine = this_process()
    monkeypatch.setattr(process, "_MACHINE", tmp_path / "machine-id")
    assert has_ended(mine) is None
    assert "another" not in host()


@pytest.mark.parametrize("written", [None, "", "no json", "[]", '{"pid": 1}', ELSEWHERE])
def test_of_a_process_elsewhere_nothing_is_claimed(written: str | None) -> None:
    assert has_ended(written) is None


def test_a_run_says_who_works_on_it_while_it_runs(store: Store) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        (run,) = open_runs(store)
        assert (run.run_id, run.kind, run.life) == (tracker.run_id, "train", Life.WORKING)
    assert open_runs(store) == []


def test_a_run_whose_process_was_killed_is_closed_at_its_last_sign_of_life(store: Store) -> None:
    run_id = left_running(store, ended_process())
    sign = int(time.time() * 1000) - 5000
    store.client.log_metric(run_id, "train/loss", 1.0, timestamp=sign + 10_000)
    (run,) = open_runs(store)
    assert (run.life, run.abandoned) == (Life.ENDED, True)
    assert close(store, run) == "KILLED"
    kept = store.client.get_run(run_id)
    assert (kept.info.status, kept.info.end_time) == ("KILLED", sign + 10_000)
    assert kept.data.tags["tunery.failure"] == "killed"
    assert open_runs(store) == []


@pytest.mark.parametrize("since", ["FINISHED", "RUNNING"])
def test_a_run_that_ended_or_was_resumed_since_it_was_looked_at_is_left_alone(store: Store, since: str) -> None:
    run_id = left_running(store, ended_process())
    (run,) = open_runs(store)
    if since == "FINISHED":
        store.client.set_terminated(run_id)
    else:
        store.client.set_tag(run_id, PROCESS, this_process())
    assert close(store, run) == since
    kept = store.client.get_run(run_id)
    assert (kept.info.status, "tunery.failure" in kept.data.tags) == (since, False)


def test_a_run_of_another_host_is_abandoned_only_when_it_has_been_silent_for_a_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = left_running(store, ELSEWHERE)
    assert lives(store) == {run_id: Life.UNKNOWN}
    monkeypatch.setattr(abandoned, "SILENT_SECONDS", -1.0)
    assert lives(store) == {run_id: Life.SILENT}


def test_a_study_works_while_one_of_its_trials_may(store: Store) -> None:
    study = left_running(store, ended_process(), kind="study")
    left_running(store, ELSEWHERE, kind="trial", parent=study)
    assert lives(store)[study] == Life.WORKING


def test_a_promotion_that_moved_the_aliases_before_it_was_killed_is_finished(store: Store) -> None:
    run_id = left_running(store, ended_process(), kind="promotion")
    store.client.set_tag(run_id, "tunery.promotion.applied", "2026-01-01T00:00:00+00:00")
    (run,) = open_runs(store, "promotion", "quickstart")
    assert close(store, run) == "FINISHED"
    assert store.client.get_run(run_id).info.status == "FINISHED"


def test_runs_that_are_not_ours_are_left_alone(store: Store) -> None:
    store.client.create_run(store.experiment_id())
    assert open_runs(store) == []
