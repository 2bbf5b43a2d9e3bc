"""A working folder for each module, with rows and an empty store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Place


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Place:
    made = Place(tmp_path_factory.mktemp(request.node.path.stem))
    shutil.copy2(fresh_database, made.folder / "mlflow.db")
    made.rows()
    return made
