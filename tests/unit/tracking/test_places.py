"""A store whose folder was moved: the place that was looked at, and the way back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tunery.errors import RefError
from tunery.tracking.places import moved
from tunery.tracking.registry import ModelRef, download
from tunery.tracking.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a run kept its files."""
    made = tmp_path / "then" / "mlruns" / "quickstart" / "run" / "artifacts"
    made.mkdir(parents=True)
    return made


def at(store: Store, folder: Path) -> Store:
    return replace(store, uri=f"sqlite:///{folder}/mlflow.db")


def test_files_in_their_place_are_not_moved(store: Store, place: Path) -> None:
    assert moved(store, str(place)) is None
    assert moved(store, f"file://{place}") is None


def test_a_moved_store_says_where_it_looked_and_where_the_files_are(store: Store, place: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "then", tmp_path / "now")
    root, now = tmp_path / "then" / "mlruns", tmp_path / "now" / "mlruns"
    assert moved(at(store, tmp_path / "now"), str(place)) == (
        f"{place} is not there, but {now} holds it: the store was moved. Move it back, or: ln -s {now} {root}"
    )


def test_a_folder_that_is_nowhere_is_named(store: Store, place: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "then")
    told = moved(store, str(place))
    assert told is not None
    assert told.startswith(f"{place} is not there. If {tmp_path}/then/mlruns was moved, move it back")


def test_a_run_whose_own_files_alone_are_gone_was_not_moved(store: Store, place: Path) -> None:
    shutil.rmtree(place.parent)
    assert moved(store, str(place)) is None


def test_a_store_that_never_kept_a_file_has_no_folder_for_them(store: Store, place: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "then" / "mlruns")
    assert moved(store, str(place)) is None
    assert moved(store, str(place), was_kept=True) is not None


def test_a_server_or_a_bucket_is_not_looked_at(store: Store) -> None:
    assert moved(store, "s3://bucket/mlruns/1/run/artifacts", was_kept=True) is None
    assert moved(store, "mlflow-artifacts:/1/run/artifacts", was_kept=True) is None


def test_a_model_of_a_moved_store_is_not_to_be_trained_again(store: Store, tmp_path: Path) -> None:
    logged = store.client.create_logged_model(store.experiment_id(), name="adapter")
    (tmp_path / "mlruns").mkdir(exist_ok=True)
    (tmp_path / "mlruns").rename(tmp_path / "elsewhere")
    with pytest.raises(RefError, match=r"models:/m/1: its files cannot be reached: .*mlruns.* is not there") as told:
        download(ModelRef("models:/m/1", logged.model_id, None), tmp_path / "copy", store)
    assert "Train it again" not in str(told.value)
