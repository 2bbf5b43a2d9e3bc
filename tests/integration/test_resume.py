"""An interrupted run goes on in the same MLflow run and ends as if nothing had happened."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Place

Runs = Callable[[Place], list[Any]]
STEPS = 40


@pytest.fixture
def long(place: Place) -> Place:
    place.project(
        training={"max_steps": STEPS, "checkpoints": 4},
        evaluation={"tasks": [], "generation": {"prompts": 0}},
        adapter={"dropout": 0.1},
    )
    return place


def interrupted(place: Place, number: signal.Signals, runs: Runs) -> tuple[int, str]:
    """Train until a few steps are in MLflow, send the signal, and wait for the end."""
    command = [sys.executable, "-m", "tunery", "train", "--project", "."]
    process = subprocess.Popen(
        command, cwd=place.folder, env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    # At the second one, the checkpoint of the first is whole: SIGKILL leaves no time to write another.
    measured = (line for line in process.stdout if "validation/nll" in line)
    next(measured), next(measured)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    return process.returncode, error


def losses(place: Place, run_id: str) -> dict[int, float]:
    import mlflow

    history = mlflow.MlflowClient(tracking_uri=place.uri).get_metric_history(run_id, "train/loss")
    assert len(history) == len({point.step for point in history}), "a step was logged twice"
    return {point.step: point.value for point in history}


def uninterrupted(place: Place, runs: Runs) -> dict[int, float]:
    outcome = place.tunery("train", "--project", ".", "--run-name", "whole")
    assert outcome.code == 0, outcome.err
    return losses(place, next(run.info.run_id for run in runs(place) if run.info.run_name == "whole"))


# Half a minute each: one of those that ask to stop, and the others in the slow suite.
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_where_it_was(long: Place, runs: Runs, number: signal.Signals) -> None:
    code, error = interrupted(long, number, runs)
    (run,) = runs(long)
    if number is not signal.SIGKILL:
        assert code == 1
        assert "--resume" in error
        assert (run.info.status, run.data.tags["tunery.failure"]) == ("KILLED", "killed")
    assert len(losses(long, run.info.run_id)) < STEPS

    outcome = long.tunery("train", "--project", ".", "--resume", run.info.run_id)
    assert outcome.code == 0, outcome.err
    (run,) = runs(long)
    assert run.info.status == "FINISHED"
    assert "tunery.failure" not in run.data.tags
    assert losses(long, run.info.run_id) == uninterrupted(long, runs)


@pytest.mark.slow
def test_points_that_a_kill_kept_from_mlflow_are_sent_by_the_resumed_run(long: Place, runs: Runs) -> None:
    interrupted(long, signal.SIGTERM, runs)
    (run,) = runs(long)
    whole = losses(long, run.info.run_id)
    with sqlite3.connect(long.folder / "mlflow.db") as database:
        database.execute("DELETE FROM metrics WHERE key = 'train/loss' AND step BETWEEN 2 AND 5")
    assert set(whole) - set(losses(long, run.info.run_id)) == {2, 3, 4, 5}
    assert long.tunery("train", "--project", ".", "--resume", run.info.run_id).code == 0
    again = losses(long, run.info.run_id)
    assert len(again) == STEPS
    assert {step: again[step] for step in whole} == whole


def test_a_run_is_not_resumed_with_other_settings(long: Place, runs: Runs) -> None:
    interrupted(long, signal.SIGTERM, runs)
    (run,) = runs(long)
    outcome = long.tunery("train", "--project", ".", "--resume", run.info.run_id, "--training.learning_rate", "0.5")
    assert outcome.code == 2
    assert "training.learning_rate" in outcome.err


def test_a_run_is_not_resumed_over_other_rows(long: Place, runs: Runs) -> None:
    interrupted(long, signal.SIGTERM, runs)
    long.rows(count=12)
    (before,) = runs(long)
    outcome = long.tunery("train", "--project", ".", "--resume", before.info.run_id)
    assert outcome.code == 2
    assert "input.data.train" in outcome.err
    (after,) = runs(long)
    assert (after.info.status, after.data.tags) == ("KILLED", before.data.tags)
    assert after.inputs.to_dictionary() == before.inputs.to_dictionary()


def test_another_projects_run_is_not_resumed(long: Place, runs: Runs) -> None:
    interrupted(long, signal.SIGTERM, runs)
    (before,) = runs(long)
    outcome = long.tunery("train", "--project", ".", "--resume", before.info.run_id, "--name", "other")
    assert outcome.code == 2
    assert "'small', but must be other" in outcome.err
    (after,) = runs(long)
    assert (after.info.status, after.data.tags) == ("KILLED", before.data.tags)


def test_a_run_that_is_alive_is_not_resumed(long: Place, runs: Runs) -> None:
    from filelock import FileLock

    interrupted(long, signal.SIGKILL, runs)
    (run,) = runs(long)
    with FileLock(long.folder / "home" / "runs" / f"{run.info.run_id}.lock"):
        outcome = long.tunery("train", "--project", ".", "--resume", run.info.run_id)
    assert outcome.code == 2
    assert "another process is training it now" in outcome.err


def test_a_run_holds_its_lock_from_its_first_step_on(long: Place, runs: Runs) -> None:
    from filelock import FileLock, Timeout

    process = loading(long)
    (run,) = runs(long)
    with pytest.raises(Timeout):
        FileLock(long.folder / "home" / "runs" / f"{run.info.run_id}.lock", timeout=0).acquire()
    process.kill()
    process.communicate(timeout=120)


def loading(place: Place) -> subprocess.Popen[str]:
    """A training that has made its run and begins to load its base."""
    command = [sys.executable, "-m", "tunery", "train", "--project", "."]
    process = subprocess.Popen(
        command, cwd=place.folder, env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "loading" in line)
    return process


def test_a_signal_before_training_says_how_to_go_on(long: Place, runs: Runs) -> None:
    process = loading(long)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    (run,) = runs(long)
    assert (process.returncode, run.info.status) == (1, "KILLED")
    assert f"--resume {run.info.run_id}" in " ".join(out.split())


@pytest.mark.parametrize(("dev_fraction", "split"), [(0.0001, "dev"), (0.9999, "locked")])
def test_a_checkpoint_is_not_chosen_by_a_score_without_items(
    place: Place, runs: Runs, dev_fraction: float, split: str
) -> None:
    place.project(training={"keep_best_by": "score"}, evaluation={"dev_fraction": dev_fraction})
    outcome = place.tunery("train", "--project", ".")
    assert outcome.code == 2
    assert f"leaves world_facts a {split} item" in outcome.err
    assert "training" not in outcome.out


def test_a_run_says_where_its_project_stands(place: Place, runs: Runs) -> None:
    place.project(evaluation={"tasks": [], "generation": {"prompts": 0}})
    assert place.tunery("train", "--project", ".").code == 0
    (run,) = runs(place)
    assert run.data.tags["tunery.project_folder"] == str(place.folder)


def test_a_finished_run_is_not_resumed(place: Place, runs: Runs) -> None:
    place.project(evaluation={"tasks": [], "generation": {"prompts": 0}})
    assert place.tunery("train", "--project", ".").code == 0
    (run,) = runs(place)
    outcome = place.tunery("train", "--project", ".", "--resume", run.info.run_id)
    assert outcome.code == 2
    assert "FINISHED" in outcome.err


def test_a_diverging_run_ends_as_failed_and_says_at_which_step(place: Place, runs: Runs) -> None:
    place.project(
        adapter={"target_modules": "all-linear"},
        training={"learning_rate": 1e37, "max_steps": 8, "scheduler": "constant", "warmup_ratio": 0},
        evaluation={"tasks": [], "generation": {"prompts": 0}},
    )
    outcome = place.tunery("train", "--project", ".")
    assert outcome.code == 1
    assert "training.step" in outcome.err
    assert "Traceback" not in outcome.err
    (run,) = runs(place)
    assert (run.info.status, run.data.tags["tunery.failure"]) == ("FAILED", "nan")
