"""Whether what shall be champion again can still be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.errors import RefError
from tunery.promotion.store import check_files
from tunery.tracking.store import Store


@pytest.fixture
def version(store: Store, tmp_path: Path) -> Path:
    """small/1, registered as the command does it; the folder of its files."""
    client = store.client
    model = client.create_logged_model(store.experiment_id(), name="adapter")
    folder = tmp_path / model.artifact_location.removeprefix("file://")
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    client.create_registered_model("small")
    client.create_model_version("small", f"models:/{model.model_id}", model_id=model.model_id)
    return folder


def test_a_version_whose_files_are_there_is_fit_to_come_back(store: Store, version: Path) -> None:
    check_files("models:/small/1", store)


def test_a_version_whose_files_are_gone_is_refused(store: Store, version: Path) -> None:
    (version / "MLmodel").unlink()
    with pytest.raises(RefError, match="models:/small/1: its files are gone from the artifact store"):
        check_files("models:/small/1", store)


def test_a_version_whose_model_was_deleted_is_refused(store: Store, version: Path) -> None:
    store.client.delete_logged_model(store.client.search_logged_models([store.experiment_id()])[0].model_id)
    with pytest.raises(RefError, match="models:/small/1: its files cannot be read"):
        check_files("models:/small/1", store)
