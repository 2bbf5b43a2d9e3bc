"""Whether what shall be champion again can still be loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.errors import RefError
from tunery.promotion.store import DECISION, MODEL, VERSION, check_files, log_decision, promotions
from tunery.tracking.registry import resolve
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


def decided(store: Store, name: str) -> str:
    """A promotion of version 1 of a model; its run's id."""
    run_id = store.client.create_run(store.experiment_id()).info.run_id

    def tag(**tags: str) -> None:
        for key, value in tags.items():
            store.client.set_tag(run_id, key, value)

    unused = dict.fromkeys(("log_metrics", "log_dict", "set_description", "flush"), lambda *_: None)
    tracker: Any = SimpleNamespace(store=store, tag=tag, **unused)
    log_decision(tracker, {MODEL: name, DECISION: "accepted", VERSION: "1"}, {}, {}, "page")
    return str(run_id)


def test_a_renamed_model_keeps_its_promotions_and_the_next_of_its_name_has_none_of_them(store: Store) -> None:
    store.client.create_registered_model("small")
    run_id = decided(store, "small")
    store.client.rename_registered_model("small", "it's \u00fcber")
    store.client.create_registered_model("small")
    assert [one.run_id for one in promotions(store, "it's \u00fcber")] == [run_id]
    assert promotions(store, "small") == []


@pytest.mark.parametrize("name", ["it's", 'so "called"', "plain", "per%cent_", "`ticks`"])
def test_a_models_name_may_hold_quotes(store: Store, name: str) -> None:
    store.client.create_registered_model(name)
    store.client.create_model_version(name, "s3://nowhere")
    run_id = decided(store, name)
    assert [one.run_id for one in promotions(store, name)] == [run_id]
    with pytest.raises(RefError) as raised:
        resolve(f"models:/{name}/99", store)
    assert f"there is no version 99 of {name!r}: {name} has versions: 1; aliases: none." in str(raised.value)
    assert f"Read was {store.uri}; MLFLOW_TRACKING_URI names another store." in str(raised.value)
