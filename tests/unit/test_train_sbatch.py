"""deploy/slurm/train.sbatch on programs of the test's own: what it asks SLURM for, and which run it resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "train.sbatch"
RUN = "0123456789abcdef0123456789abcdef"
PROGRAMS = {
    # Ends with the code that CODE says; with CODE=wait not before it is told to.
    "python": f"""
echo "$*" >> "$PLACE/started"
echo "run {RUN} of small"
[[ $CODE == wait ]] || exit "$CODE"
trap 'echo stopped after its step; exit 1' TERM
echo $$ > "$PLACE/pid"
while :; do sleep 0.02; done
""",
    "squeue": 'echo "$STATE"',
    "scontrol": 'echo "$*" >> "$PLACE/asked"',
}


@dataclass(frozen=True)
class Job:
    """A job as SLURM starts it, as often as it is asked to."""

    place: Path

    def start(
        self, code: str, *words: str, state: str = "RUNNING", uri: str = "http://login1:5000"
    ) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.place / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.place), "SLURM_JOB_ID": "77", "MLFLOW_TRACKING_URI": uri,
            "PLACE": str(self.place), "CODE": code, "STATE": state,
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(SCRIPT), *words], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def ended(self, code: str, *words: str) -> tuple[int, str]:
        process = self.start(code, *words)
        said, _ = process.communicate(timeout=30)
        return process.returncode, said

    def written(self, name: str) -> list[str]:
        file = self.place / name
        return file.read_text().splitlines() if file.exists() else []

    def training(self) -> int:
        """The process that trains, once it does."""
        until = time.monotonic() + 30
        while not self.written("pid") and time.monotonic() < until:
            time.sleep(0.02)
        return int(self.written("pid")[0])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    return Job(tmp_path)


def test_a_training_whose_time_is_up_is_requeued_and_resumes_its_run(job: Job) -> None:
    process = job.start("wait", "projects/x", "--training.epochs", "2")
    job.training()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopped after its step" in said
    assert "requeue 77" in job.written("asked")
    assert job.ended("0", "projects/x", "--training.epochs", "2")[0] == 0
    assert job.written("started") == [
        "-m tunery train --project projects/x --training.epochs 2",
        f"-m tunery train --project projects/x --resume {RUN} --training.epochs 2",
    ]


def test_a_job_that_slurm_ends_itself_is_not_requeued_twice(job: Job) -> None:
    process = job.start("wait", "projects/x", state="COMPLETING")
    training = job.training()
    process.send_signal(signal.SIGTERM)
    os.kill(training, signal.SIGTERM)  # SLURM tells every process
    process.communicate(timeout=30)
    assert "requeue 77" not in job.written("asked")


def test_a_training_that_failed_is_not_requeued(job: Job) -> None:
    code, said = job.ended("2", "projects/x")
    assert code == 2
    assert job.written("asked") == []
    assert "requeued" not in said


def test_a_start_after_the_run_ended_well_does_nothing(job: Job) -> None:
    job.ended("0", "projects/x")
    code, said = job.ended("0", "projects/x")
    assert code == 0
    assert "has ended well before" in said
    assert len(job.written("started")) == 1


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "/shared/mlflow"])
def test_a_store_that_other_nodes_do_not_reach_is_refused(job: Job, uri: str) -> None:
    process = job.start("0", "projects/x", uri=uri)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "must be a server that every node reaches" in said
    assert job.written("started") == []
