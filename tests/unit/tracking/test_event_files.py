from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from pathlib import Path

import pytest
from tests.event_points import event_points, events, mlflow_points

from tunery.config.training import TrainingConfig
from tunery.errors import ConfigError, Interrupted, StorageError
from tunery.records.runs import StepMetrics
from tunery.tracking import event_files
from tunery.tracking.event_files import check_event_files, how_to_look, how_to_look_at_all
from tunery.tracking.run import Tracker, open_run
from tunery.tracking.store import Store


def log(tracker: Tracker, first: int, last: int) -> None:
    for step in range(first, last + 1):
        tracker.log_step(StepMetrics(step, {"train/loss": 1.0 / step, "train/peak_memory_bytes": 2.0**33 + step}))
        if step % 3 == 0:
            tracker.log_step(StepMetrics(step, {"validation/nll": 0.1 + step}))


def kept(store: Store, run_id: str, place: Path) -> Path:
    return Path(store.client.download_artifacts(run_id, "tensorboard", str(place)))


@pytest.fixture
def killed(store: Store, tmp_path: Path) -> str:
    """A run that was stopped at step 7."""
    tracker = open_run(store, "train", "quickstart")
    with contextlib.suppress(Interrupted), tracker, tracker.event_files(tmp_path / "work"):
        tracker.log_metrics({"base/train_nll": 2.0, "score": 0.5})  # no curves
        log(tracker, 1, 7)
        raise Interrupted("SIGTERM", 7, True)
    return tracker.run_id


def test_event_files_hold_mlflows_names_steps_and_values(store: Store, killed: str, tmp_path: Path) -> None:
    points = event_points(kept(store, killed, tmp_path))
    assert len(points) == 2 * 7 + 2
    assert sorted(points) == sorted(mlflow_points(store.client, killed))


def test_a_resumed_run_has_every_point_once_in_one_file(store: Store, killed: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:  # what a kill -9 kept from MLflow
        database.execute("DELETE FROM metrics WHERE step = 7")
    with open_run(store, "train", "quickstart", killed) as tracker, tracker.event_files(tmp_path / "work"):
        log(tracker, 5, 12)  # from the checkpoint of step 4 on
    folder = kept(store, killed, tmp_path)
    points = event_points(folder)
    assert len(list(folder.iterdir())) == 1
    assert len(points) == len(set(points)) == 2 * 12 + 4
    assert sorted(points) == sorted(mlflow_points(store.client, killed))
    losses = [step for name, step, _ in points if name == "train/loss"]
    assert losses == list(range(1, 13)), "TensorBoard takes a step back for a restart"


def test_points_of_before_keep_their_time(store: Store, killed: str, tmp_path: Path) -> None:
    with open_run(store, "train", "quickstart", killed) as tracker, tracker.event_files(tmp_path / "work"):
        pass
    times = {event.step: event.wall_time for event in events(kept(store, killed, tmp_path)) if event.summary.value}
    then = {point.step: point.timestamp / 1000 for point in store.client.get_metric_history(killed, "train/loss")}
    assert times == pytest.approx(then)


def test_a_file_names_neither_host_nor_process(store: Store, killed: str, tmp_path: Path) -> None:
    (file,) = kept(store, killed, tmp_path).iterdir()
    assert file.name == f"events.out.tfevents.{killed}"


def test_the_command_leads_to_the_folder_of_the_files(store: Store, killed: str) -> None:
    folder = Path(how_to_look(store, killed).removeprefix("tensorboard --logdir "))
    assert len(event_points(folder)) == 2 * 7 + 2
    experiment = store.client.get_run(killed).info.experiment_id
    assert folder.is_relative_to(how_to_look_at_all(store, experiment).removeprefix("tensorboard --logdir "))


def test_files_in_a_store_elsewhere_are_fetched_first(
    store: Store, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "_local", lambda _: None)
    fetch, look = how_to_look(store, killed).split(" && ")
    assert fetch.endswith(f"mlflow artifacts download -r {killed} -a tensorboard -d .")
    assert look == "tensorboard --logdir tensorboard"


def test_a_full_disk_is_said_and_stops_the_run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with (  # noqa: PT012 (one run)
        pytest.raises(StorageError, match=r"event file cannot be written \(No space left.*training.tensorboard: false"),
        open_run(store, "train", "quickstart") as tracker,
        tracker.event_files(tmp_path / "work"),
    ):
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
        log(tracker, 1, 1)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    check_event_files(TrainingConfig())
    with pytest.raises(ConfigError, match=r"training\.tensorboard is True.*pip install 'tunery\[tensorboard\]'"):
        check_event_files(TrainingConfig(tensorboard=True))
