"""An interrupted run goes on in the same MLflow run and ends as if nothing had happened."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.event_points import event_points, mlflow_points
from tests.integration.conftest import MakePlace, Place
from tests.integration.kept import Kept
from tests.integration.studies import end, wait_for
from tests.integration.warm import Command

Runs = Callable[[Place], list[Any]]
STEPS = 40


def lengthen(place: Place) -> None:
    """A training of some length, which begins with another's adapter: what resumes must not begin there again."""
    place.project(
        training={"max_steps": STEPS, "checkpoints": 4, "tensorboard": True},
        evaluation={"tasks": [], "generation": {"prompts": 0}},
        adapter={"dropout": 0.1, "start": place.adapter("start")},
    )


@contextmanager
def training(place: Place) -> Iterator[Command]:
    """A training that goes on meanwhile; what it prints goes to out.log and err.log."""
    words, log = ["train", "--project", "."], place.folder
    command = Command(words, place.folder, place.environment(), log / "out.log", log / "err.log")
    try:
        yield command
    finally:
        end(command)


def prints(place: Place, text: str, times: int = 1) -> Callable[[], bool]:
    return lambda: (place.folder / "out.log").read_text().count(text) >= times


@dataclass(frozen=True)
class Stopped:
    """A place whose training got a signal, and how it ended."""

    kept: Kept
    code: int


@pytest.fixture(scope="module")
def stopped(make_place: MakePlace, tmp_path_factory: pytest.TempPathFactory) -> Callable[[signal.Signals], Stopped]:
    """Train until a few steps are in MLflow, send the signal, and wait for the end: once for each signal."""
    made: dict[signal.Signals, Stopped] = {}

    def _stopped(number: signal.Signals) -> Stopped:
        if number not in made:
            place = make_place(number.name)
            lengthen(place)
            with training(place) as command:
                # At the second one, the checkpoint of the first is whole: SIGKILL leaves no time to write another.
                wait_for(prints(place, "validation/nll", times=2), command)
                command.send_signal(number)
                code = command.wait(timeout=120)
            made[number] = Stopped(Kept.of(place, tmp_path_factory.mktemp("kept") / number.name), code)
        return made[number]

    return _stopped


@pytest.fixture
def interrupted(stopped: Callable[[signal.Signals], Stopped]) -> Place:
    """A place whose training was asked to stop, and did."""
    return stopped(signal.SIGTERM).kept.again()


def client_of(place: Place) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=place.uri)


def losses(place: Place, run_id: str) -> dict[int, float]:
    history = client_of(place).get_metric_history(run_id, "train/loss")
    assert len(history) == len({point.step for point in history}), "a step was logged twice"
    return {point.step: point.value for point in history}


@pytest.fixture(scope="module")
def uninterrupted(make_place: MakePlace, runs: Runs) -> dict[int, float]:
    """The losses of the same training, which nothing stopped."""
    place = make_place("whole")
    lengthen(place)
    outcome = place.tunery("train", "--project", ".")
    assert outcome.code == 0, outcome.err
    (run,) = [run for run in runs(place) if run.data.tags["tunery.kind"] == "train"]
    return losses(place, run.info.run_id)


# One of those that ask to stop, and the others in the slow suite.
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_where_it_was(
    stopped: Callable[[signal.Signals], Stopped], uninterrupted: dict[int, float], runs: Runs, number: signal.Signals
) -> None:
    place, code = stopped(number).kept.again(), stopped(number).code
    (run,) = runs(place)
    if number is signal.SIGKILL:
        assert code == -number
    else:
        assert code == 1
        assert f"--resume {run.info.run_id}" in (place.folder / "err.log").read_text()
        assert (run.info.status, run.data.tags["tunery.failure"]) == ("KILLED", "killed")
    assert len(losses(place, run.info.run_id)) < STEPS

    outcome = place.tunery("train", "--project", ".", "--resume", run.info.run_id)
    assert outcome.code == 0, outcome.err
    (run,) = runs(place)
    assert run.info.status == "FINISHED"
    assert "tunery.failure" not in run.data.tags
    assert losses(place, run.info.run_id) == uninterrupted
    assert run.data.tags["tunery.start"] == "start"
    assert run.data.params["input.adapter.start"].startswith("sha256:")
    assert "its curves: tensorboard --logdir" in " ".join(outcome.out.split())
    points = event_points(Path(run.info.artifact_uri.removeprefix("file://")) / "tensorboard")
    assert sorted(points) == sorted(mlflow_points(client_of(place), run.info.run_id))
    assert len(points) == len({(name, step) for name, step, _ in points})


def test_points_that_a_kill_kept_from_mlflow_are_sent_by_the_resumed_run(interrupted: Place, runs: Runs) -> None:
    (run,) = runs(interrupted)
    whole = losses(interrupted, run.info.run_id)
    with sqlite3.connect(interrupted.folder / "mlflow.db") as database:
        database.execute("DELETE FROM metrics WHERE key = 'train/loss' AND step BETWEEN 2 AND 5")
    assert set(whole) - set(losses(interrupted, run.info.run_id)) == {2, 3, 4, 5}
    assert interrupted.tunery("train", "--project", ".", "--resume", run.info.run_id).code == 0
    again = losses(interrupted, run.info.run_id)
    assert len(again) == STEPS
    assert {step: again[step] for step in whole} == whole


def test_a_run_is_not_resumed_with_other_settings(interrupted: Place, runs: Runs) -> None:
    (run,) = runs(interrupted)
    words = ["--resume", run.info.run_id, "--training.learning_rate", "0.5"]
    outcome = interrupted.tunery("train", "--project", ".", *words)
    assert outcome.code == 2
    assert "training.learning_rate" in outcome.err


def test_a_run_is_not_resumed_over_other_rows(interrupted: Place, runs: Runs) -> None:
    interrupted.rows(count=12)
    (before,) = runs(interrupted)
    outcome = interrupted.tunery("train", "--project", ".", "--resume", before.info.run_id)
    assert outcome.code == 2
    assert "input.data.train" in outcome.err
    (after,) = runs(interrupted)
    assert (after.info.status, after.data.tags) == ("KILLED", before.data.tags)
    assert after.inputs.to_dictionary() == before.inputs.to_dictionary()


def test_another_projects_run_is_not_resumed(interrupted: Place, runs: Runs) -> None:
    (before,) = runs(interrupted)
    outcome = interrupted.tunery("train", "--project", ".", "--resume", before.info.run_id, "--name", "other")
    assert outcome.code == 2
    assert "'small', but must be other" in outcome.err
    (after,) = runs(interrupted)
    assert (after.info.status, after.data.tags) == ("KILLED", before.data.tags)


def test_a_run_that_is_alive_is_not_resumed(stopped: Callable[[signal.Signals], Stopped], runs: Runs) -> None:
    from filelock import FileLock

    place = stopped(signal.SIGKILL).kept.again()
    (run,) = runs(place)
    with FileLock(place.folder / "home" / "runs" / f"{run.info.run_id}.lock"):
        outcome = place.tunery("train", "--project", ".", "--resume", run.info.run_id)
    assert outcome.code == 2
    assert "another process is training it now" in outcome.err


def test_a_run_holds_its_lock_from_its_first_step_on_and_a_signal_then_says_how_to_go_on(
    place: Place, runs: Runs
) -> None:
    from filelock import FileLock, Timeout

    lengthen(place)
    with training(place) as command:
        wait_for(prints(place, "loading"), command)  # it has made its run, and begins to load its base
        (run,) = runs(place)
        with pytest.raises(Timeout):
            FileLock(place.folder / "home" / "runs" / f"{run.info.run_id}.lock", timeout=0).acquire()
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=120) == 1
    (run,) = runs(place)
    assert run.info.status == "KILLED"
    assert f"--resume {run.info.run_id}" in " ".join((place.folder / "out.log").read_text().split())


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
