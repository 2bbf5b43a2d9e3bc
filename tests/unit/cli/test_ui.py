"""`tunery ui`: MLflow's pages on the store of the other verbs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tunery.cli.ui import ui
from tunery.errors import TrackingError
from tunery.tracking.store import Store


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was started in place of MLflow."""
    found: dict[str, Any] = {}

    def run(command: list[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        found.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def test_it_opens_the_store_of_the_other_verbs_and_prints_the_command(store: Store, started: dict[str, Any]) -> None:
    answer = CliRunner().invoke(ui, ["--tracking-uri", store.uri, "--port", "5001"])
    assert answer.exit_code == 0
    assert answer.output.strip() == f"mlflow ui --backend-store-uri {store.uri} --host 127.0.0.1 --port 5001"
    assert started["command"][1:] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5001"]
    assert started["env"]["MLFLOW_BACKEND_STORE_URI"] == store.uri


def test_no_store_is_made_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    answer = CliRunner().invoke(ui, [])
    assert isinstance(answer.exception, TrackingError)
    assert f"{tmp_path}/mlflow.db: there is no store here yet" in str(answer.exception)
    assert (started, list(tmp_path.iterdir())) == ({}, [])


@pytest.mark.parametrize("end", ["", "/"])
def test_a_server_has_pages_of_its_own(started: dict[str, Any], end: str) -> None:
    answer = CliRunner().invoke(ui, ["--tracking-uri", f"http://me:s3cret@host:5000{end}"])
    assert "http://[redacted]@host:5000/?workflowType=machine_learning" in answer.output
    assert started == {}
