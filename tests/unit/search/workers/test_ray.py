"""Ray as the engine, without Ray: places on a cluster, stores that its nodes can reach, and lost workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from tunery.cli.tune import tune as command
from tunery.errors import ConfigError, InputError, Interrupted, RunStopped
from tunery.search.study import queue
from tunery.search.workers import pool, ray, ray_cluster
from tunery.search.workers.pool import StopCount
from tunery.search.workers.ray_actor import RayWorker
from tunery.search.workers.ray_cluster import Node, Share, gpus_each, require_shared_stores, share

HERE = socket.gethostname()


def nodes(*sizes: tuple[float, float], host: str = HERE) -> list[Node]:
    return [Node(host, cpus, gpus) for cpus, gpus in sizes]


@pytest.mark.parametrize(
    ("sizes", "workers", "gpus", "cpus"),
    [
        ([(8, 0)], 2, 0.0, 4),
        ([(8, 0), (4, 0)], 3, 0.0, 4),
        ([(8, 0), (4, 0)], 4, 0.0, 2),
        ([(8, 1), (8, 1)], 2, 1.0, 8),
        ([(64, 8)], 8, 1.0, 8),
        ([(64, 2)], 4, 0.5, 16),
        ([(0, 0), (3, 0)], 1, 0.0, 3),  # a head node that takes no work
    ],
)
def test_each_worker_gets_the_most_threads_that_all_of_them_can_have(
    sizes: list[tuple[float, float]], workers: int, gpus: float, cpus: int
) -> None:
    assert share(nodes(*sizes), workers, gpus) == Share(cpus, gpus)


@pytest.mark.parametrize(
    ("sizes", "workers", "gpus", "most"),
    [([(2, 0)], 3, 0.0, 2), ([(64, 2), (64, 1)], 4, 1.0, 3), ([(1, 8)], 2, 1.0, 1), ([(64, 0)], 1, 1.0, 0)],
)
def test_more_workers_than_places_are_refused_with_the_most_there_can_be(
    sizes: list[tuple[float, float]], workers: int, gpus: float, most: int
) -> None:
    with pytest.raises(ConfigError, match=f"--workers is {workers}, but must be at most {most}, .* the cluster has "):
        share(nodes(*sizes), workers, gpus)


@pytest.mark.parametrize(
    ("device", "asked", "there", "each"),
    [
        ("auto", None, 4.0, 1.0),
        ("auto", None, 0.0, 0.0),
        ("cpu", None, 4.0, 0.0),
        ("cuda", None, 0.0, 1.0),
        ("auto", 0.5, 4.0, 0.5),
        ("auto", 0.0, 4.0, 0.0),
    ],
)
def test_a_worker_gets_a_card_where_there_are_any_unless_told_otherwise(
    device: str, asked: float | None, there: float, each: float
) -> None:
    assert gpus_each(nodes((8, there)), device, asked) == each


def test_files_as_stores_are_refused_where_the_cluster_has_several_hosts() -> None:
    several = [*nodes((4, 0)), *nodes((4, 0), host="another")]
    with pytest.raises(ConfigError) as refused:
        require_shared_stores(several, "sqlite:////x/optuna.db", "sqlite:////x/mlflow.db")
    text = str(refused.value)
    assert all(said in text for said in ("2 faults", "SQLite with several hosts", "postgresql://", "mlflow server"))
    require_shared_stores(several, "postgresql+psycopg2://host/x", "http://host:5000")


def test_a_cluster_that_does_not_hold_this_host_counts_as_several() -> None:
    with pytest.raises(ConfigError, match="SQLite with several hosts"):
        require_shared_stores(nodes((4, 0), host="another"), "sqlite:////x/optuna.db", "http://host:5000")


def test_several_nodes_of_this_host_may_use_files() -> None:
    require_shared_stores(nodes((4, 0), (4, 0)), "sqlite:////x/optuna.db", "sqlite:////x/mlflow.db")


def test_without_ray_the_advice_is_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "tunery\[ray\]"'):
        ray_cluster.connect("auto")


def test_an_address_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_CONNECT", "import time; time.sleep(60)")
    monkeypatch.setattr(ray_cluster, "_SECONDS_TO_ANSWER", 0.5)
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at 'head:6379' \(nothing in 0.5 seconds\)"):
        ray_cluster._require_answer("head:6379")


def test_what_ray_says_of_an_address_is_passed_on_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_CONNECT", "raise RuntimeError('Version mismatch: 1 and 2.')")
    with pytest.raises(ConfigError, match=r"at 'auto' \(RuntimeError: Version mismatch: 1 and 2\)\. Start one"):
        ray_cluster._require_answer("auto")


@pytest.mark.parametrize("option", [["--address", "auto"], ["--gpus-per-worker", "1"]])
def test_options_of_ray_without_ray_are_bad_input(option: list[str]) -> None:
    done = CliRunner().invoke(command, ["--project", ".", *option])
    assert done.exit_code == 2
    assert "are for --executor ray" in done.output


def test_workers_share_the_settings_of_the_command_but_not_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key, value in {"TUNERY_HOME": str(tmp_path), "MLFLOW_TRACKING_TOKEN": "t", "MLFLOW_RUN_ID": "r"}.items():
        monkeypatch.setenv(key, value)
    passed = ray._environment(Share(3, 0.0))
    expected = {"TUNERY_HOME": str(tmp_path), "MLFLOW_TRACKING_TOKEN": "t", "OMP_NUM_THREADS": "3"}
    assert {key: passed.get(key) for key in expected} == expected
    assert ("MLFLOW_RUN_ID" in passed, passed["CUDA_VISIBLE_DEVICES"]) == (False, "")
    assert "CUDA_VISIBLE_DEVICES" not in ray._environment(Share(3, 1.0))  # Ray names the cards


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in place of the worker's: it stores its spec, and waits for SIGINT or the end of its parent."""
    place = tmp_path / "tunery" / "search" / "workers"
    place.mkdir(parents=True)
    for folder in (place.parents[1], place.parent, place):
        (folder / "__init__.py").write_text("")
    (place / "process_main.py").write_text(
        "import pathlib, sys\n"
        "try:\n"
        f"    pathlib.Path({str(tmp_path / 'spec')!r}).write_text(sys.stdin.readline())\n"
        "    sys.stdin.read()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit('first line\\nstopped as asked')\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "spec"


def test_an_actor_starts_a_worker_stops_it_and_tells_its_last_words(fake_worker: Path) -> None:
    actor = RayWorker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as `ray start` does
    try:
        name = actor.start({"number": 7, "token": "t"}, {"PYTHONPATH": str(fake_worker.parent)})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    host, _, pid = name.rpartition(":")
    assert host == f"{HERE}:t"
    _wait_for(fake_worker)
    assert json.loads(fake_worker.read_text()) == {"number": 7, "token": "t", "orphaned_by": signal.SIGKILL}
    assert actor.look() == (None, "")
    actor.interrupt()
    os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)
    code, words = actor.look()
    assert (code, words.splitlines()[-1]) == (1, "stopped as asked")


def test_a_worker_whose_actor_is_gone_is_killed_at_once() -> None:
    follow = (
        "import signal, time\nfrom tunery.search.workers.process_main import follow_parent\n"
        "follow_parent(signal.SIGKILL)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", f"{follow}time.sleep(60)"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=30) == -signal.SIGKILL


class FakePool(ray._ActorPool):
    """A pool whose actors are only counted."""

    asked: list[int]
    said: list[str]

    def _start(self, number: int) -> None:
        self.asked.append(number)
        self.members[number] = ray._Actor(actor=None, answer=None)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="x", storage=storage)
    queue.enqueue_trials(study, [queue.TrialJob(0), queue.TrialJob(1)])
    said: list[str] = []
    session = SimpleNamespace(
        study=study,
        options=SimpleNamespace(workers=2),
        progress=SimpleNamespace(step=said.append, waiting=lambda: None),
    )
    monkeypatch.setattr(ray, "_kill", lambda member: None)
    monkeypatch.setattr(ray, "_SECONDS_TO_DIE", 0.0)
    made: Any = FakePool(session, "", Share(1, 0.0))
    made.asked, made.said = [], said
    return made


def begin(workers: FakePool, number: int, name: str) -> ray._Actor:
    member = ray._Actor(actor=None, answer=None, name=name)
    workers.members[number] = member
    workers.session.study.ask().set_user_attr(queue.WORKER, name)
    return member


def states(workers: FakePool) -> list[TrialState]:
    return [trial.state for trial in workers.session.study.get_trials()]


def test_a_lost_worker_is_replaced_and_its_trial_waits_for_another(workers: FakePool) -> None:
    member = begin(workers, 0, "far:1")
    begin(workers, 1, "far:2")
    workers._ended(0, member, ray._LOST, "the node died", stopping=False)
    assert states(workers) == [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    assert queue.retries(workers.session.study.trials[-1]) == 1
    assert workers.asked == [0]
    assert workers.said == ["worker 0 was lost (its actor or node is gone: the node died) and is replaced"]


def test_a_worker_that_was_stopped_is_not_replaced_and_costs_no_retry(workers: FakePool) -> None:
    member = begin(workers, 0, "far:1")
    workers._ended(0, member, 130, "", stopping=True)
    assert states(workers)[0] == TrialState.FAIL
    assert (queue.retries(workers.session.study.trials[-1]), workers.asked, workers.members) == (0, [], {})


def test_actors_without_a_place_are_dropped_when_all_is_done(workers: FakePool) -> None:
    member = begin(workers, 0, "far:1")
    workers.session.study.tell(0, 1.0)
    workers._start(1)
    workers._ended(0, member, 0, "", stopping=False)
    assert workers.members == {}


def test_workers_that_never_begin_a_trial_end_the_study_with_what_they_said(workers: FakePool) -> None:
    def end_one() -> None:
        workers._ended(0, workers.members[0], 1, "no module named torch", stopping=False)

    workers._start(0)
    for _ in range(3):
        end_one()
    with pytest.raises(RunStopped, match=r"before they begin a trial \(exit code 1: no module named torch"):
        end_one()


def test_what_one_worker_cannot_use_ends_them_all_at_once(workers: FakePool) -> None:
    workers._start(0)
    with pytest.raises(InputError, match=r"rows\.jsonl: there is no such file"):
        workers._ended(0, workers.members[0], 2, "rows.jsonl: there is no such file", stopping=False)


def test_trials_of_workers_that_are_left_behind_wait_for_others(workers: FakePool) -> None:
    begin(workers, 0, "far:1")
    workers.close()
    assert states(workers) == [TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]


def test_after_a_second_signal_a_worker_that_hangs_is_not_waited_for(
    workers: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_SECONDS_TO_STOP", 0.1)
    monkeypatch.setattr(pool, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(workers, "_poll", lambda number, member, stopping: None)
    monkeypatch.setattr(workers, "_interrupt", lambda: None)
    workers.session.progress.update = lambda study: None
    stop = StopCount()
    stop.count, stop.name = 2, "SIGINT"
    with pytest.raises(Interrupted, match="SIGINT"):
        workers.run(stop)
    assert len(workers.members) == 2  # still there: close() kills them


def _wait_for(file: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and not (file.exists() and file.read_text()):
        time.sleep(0.05)
