from __future__ import annotations

from pathlib import Path

import pytest

from tunery.tracking.run import open_run
from tunery.tracking.run_facts import project_folder
from tunery.tracking.store import Store


@pytest.mark.parametrize("name", ["here", "gone", None])
def test_a_runs_project_folder_is_known_where_it_is_there(store: Store, tmp_path: Path, name: str | None) -> None:
    (tmp_path / "here").mkdir()
    with open_run(store, "train", "quickstart") as tracker:
        tracker.tag(**({"tunery.project_folder": str(tmp_path / name)} if name else {}))
    assert project_folder(store, tracker.run_id) == (tmp_path / "here" if name == "here" else None)


def test_an_unknown_run_has_no_project_folder(store: Store) -> None:
    assert project_folder(store, "0" * 32) is None
