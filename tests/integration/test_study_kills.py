"""Workers are killed at random moments: the study ends exact all the same."""

from __future__ import annotations

import functools
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import Place
from tests.integration.studies import (
    begin,
    belonging_to,
    by_trial,
    end,
    in_training,
    load,
    small_study,
    standing,
    text,
    trials_of,
    wait_for,
    workers_of,
)
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue

Runs = Callable[[Place], list[Any]]
KILLS = 20
TRIALS = 24


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_leave_an_exact_study(place: Place, runs: Runs, tmp_path: Path) -> None:
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={"trials": TRIALS})
    process = begin(place, "--workers", "2")
    killed: set[int] = set()
    try:
        chance = random.Random(20)
        while len(killed) < KILLS and (victim := _begun_worker(place, process, killed)) is not None:
            time.sleep(chance.uniform(0.0, 3.0))
            killed |= _kill(victim)
        process.wait(timeout=1200)
    finally:
        end(process)
    assert process.returncode == 0, text(place)
    assert len(killed) == KILLS, f"the study was over after {len(killed)} kills: it needs more trials"
    assert_nothing_lost(place, runs(place), TRIALS, tmp_path / "adapters")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_command_killed_twice_ends_exact(place: Place, runs: Runs, tmp_path: Path) -> None:
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={"trials": 6})
    for ended in (1, 3):
        process = begin(place, "--workers", "2")
        try:
            wait_for(functools.partial(_is_so_far, place, ended), process)
            for worker in workers_of(process):
                _kill(worker.pid)  # all at once, as when the machine goes down
            process.kill()
            process.wait()
        finally:
            end(process)
    outcome = place.tunery("tune", "--project", ".", "--workers", "2")
    assert outcome.code == 0, outcome.err
    assert_nothing_lost(place, runs(place), 6, tmp_path / "adapters")
    assert all(trial.state == TrialState.COMPLETE for trial in standing(place).values())


def _is_so_far(place: Place, ended: int) -> bool:
    complete = sum(trial.state == TrialState.COMPLETE for trial in standing(place).values())
    return complete >= ended and bool(in_training(place))


def _begun_worker(
    place: Place, process: subprocess.Popen[bytes], killed: Collection[int], seconds: float = 240.0
) -> int | None:
    """A worker that has begun a trial, as told by the study; None when the study is over."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        pids = {worker.pid for worker in workers_of(process)} - set(killed)
        for trial in standing(place).values():
            if trial.state == TrialState.RUNNING and (pid := _pid(trial)) in pids:
                return pid
        time.sleep(0.1)
    assert process.poll() is not None, "no worker begins a trial"
    return None


def _pid(trial: FrozenTrial) -> int | None:
    name = trial.user_attrs.get(queue.WORKER)
    return None if name is None else int(name.rpartition(":")[2])


def _kill(pid: int) -> set[int]:
    """Which processes were killed: none if it had ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return set()
    return {pid}


def assert_nothing_lost(place: Place, runs: list[Any], count: int, folder: Path) -> None:
    """Each trial has ended, complete or after two retries; its one run has an adapter that loads; nothing is left."""
    there = standing(place)
    assert set(there) == set(range(count))
    for trial in there.values():
        lost = trial.state == TrialState.FAIL and queue.retries(trial) == queue.MOST_RETRIES
        assert trial.state == TrialState.COMPLETE or lost, trial
    every = load(place).get_trials()
    assert not [trial for trial in every if not trial.state.is_finished()]
    complete = [trial for trial in every if trial.state == TrialState.COMPLETE]
    assert max(Counter(trial.user_attrs[QUEUE_KEY] for trial in complete).values()) == 1

    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == []
    done = [trial for trial in there.values() if trial.state == TrialState.COMPLETE]
    finished = {run.info.run_id for run in trials_of(runs) if run.info.status == "FINISHED"}
    assert {trial.user_attrs[queue.RUN_ID] for trial in done} == finished
    assert max(by_trial(runs).values()) == 1, "a trial that was killed went on in another run"
    assert belonging_to(place) == []
    for trial in done:
        assert_adapter_loads(place, trial, folder / str(trial.number))


def assert_adapter_loads(place: Place, trial: FrozenTrial, folder: Path) -> None:
    from safetensors.torch import load_file

    from tunery.tracking.registry import download, resolve
    from tunery.tracking.store import connect

    store = connect(place.uri, "small")
    files = download(resolve(f"runs:/{trial.user_attrs[queue.RUN_ID]}", store), folder, store)
    tensors = load_file(files / "adapter_model.safetensors")
    rank = trial.user_attrs["settings"]["adapter.rank"]
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {rank}
    assert any(tensor.abs().sum() > 0 for name, tensor in tensors.items() if "lora_B" in name)


@pytest.mark.slow
def test_a_command_killed_while_an_adapter_is_logged_ends_with_one_that_loads(
    place: Place, runs: Runs, tmp_path: Path
) -> None:
    small_study(place, search={"trials": 1})
    process = begin(place)
    try:
        wait_for(lambda: _is_being_logged(place), process)
        process.kill()
        process.wait()
    finally:
        end(process)
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    assert_nothing_lost(place, runs(place), 1, tmp_path / "adapters")


def _is_being_logged(place: Place) -> bool:
    """Whether MLflow knows of a model, of which the files are not there yet."""
    file = place.folder / "mlflow.db"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return bool(database.execute("SELECT count(*) FROM logged_models").fetchone()[0])
    return False
