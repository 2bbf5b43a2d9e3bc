"""The aliases on an MLflow server with PostgreSQL, whose columns are shorter than SQLite's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.servers import mlflow_server
from tunery.errors import Overtaken
from tunery.tracking.aliases import Aliases, AliasMove, current_aliases, finish_pending, move_aliases
from tunery.tracking.store import Store, connect


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch, mlflow_server(tmp_path_factory.mktemp("server")) as address:
        patch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
        yield connect(address, "quickstart")


def model(store: Store, name: str, versions: int) -> None:
    store.client.create_registered_model(name)
    for _ in range(versions):
        store.client.create_model_version(name, "s3://bucket/nowhere")


def wanted(store: Store, name: str, version: int) -> AliasMove:
    page = "# why\n" + "x" * 7000
    run = store.client.create_run(store.experiment_id(), tags={"mlflow.note.content": page})
    before = current_aliases(store, name)
    tags = {f"tunery.promotion.{number}": "я" * 1000 for number in range(4)}
    return AliasMove(before, Aliases(version, before.champion), run.info.run_id, "2026-01-02T03:04:05+00:00", tags)


def test_a_long_report_and_long_evidence_fit(store: Store) -> None:
    model(store, "long", 2)
    move_aliases(store, "long", wanted(store, "long", 1))
    move_aliases(store, "long", wanted(store, "long", 2))
    version = store.client.get_model_version("long", "2")
    assert current_aliases(store, "long") == Aliases(2, 1)
    assert (version.description[:5], len(version.description), len(version.tags)) == ("# why", 5000, 4)
    assert finish_pending(store, "long") is None


def test_of_five_that_move_at_once_one_wins(store: Store) -> None:
    model(store, "busy", 5)
    moves = [wanted(store, "busy", version) for version in range(1, 6)]

    def tried(one: AliasMove) -> int | None:
        try:
            move_aliases(store, "busy", one)
        except Overtaken:
            return None
        return one.after.champion

    with ThreadPoolExecutor(5) as pool:
        won = [version for version in pool.map(tried, moves) if version is not None]
    assert len(won) == 1
    assert current_aliases(store, "busy") == Aliases(won[0], None)
    assert store.client.get_registered_model("busy").tags == {}
