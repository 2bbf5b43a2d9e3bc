"""Links lead to the views for training, and say how a page is opened where no server runs."""

from __future__ import annotations

from dataclasses import replace

from tunery.tracking.links import model_link, run_link, version_link, where_kept
from tunery.tracking.store import Store


def test_links_inside_mlflows_pages_open_the_views_for_training() -> None:
    assert run_link("1", "ab") == "#/experiments/1/runs/ab?workflowType=machine_learning"
    assert model_link("my model") == "#/models/my%20model?workflowType=machine_learning"
    assert version_link("my model/3") == "#/models/my%20model/versions/3?workflowType=machine_learning"


def test_a_run_in_a_database_is_opened_by_a_command_and_one_of_a_server_by_its_address(store: Store) -> None:
    page = "#/experiments/1/runs/ab?workflowType=machine_learning"
    command = f"mlflow ui --backend-store-uri {store.uri}"
    assert where_kept(store, "1", "ab") == f"its page: {command}, then http://127.0.0.1:5000/{page}"
    server = replace(store, uri="http://me:secret@host:5000/")
    assert where_kept(server, "1", "ab").startswith("its page: http://")
    assert where_kept(server, "1", "ab").endswith(f"host:5000/{page}")
    assert "secret" not in where_kept(server, "1", "ab")
