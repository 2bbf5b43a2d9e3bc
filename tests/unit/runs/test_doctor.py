"""What `tunery doctor` shows and closes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.tracking.test_abandoned import ELSEWHERE, ended_process, left_running

from tunery.cli.terminal import Terminal
from tunery.data.reading import hub
from tunery.errors import RunHeld, TrackingError
from tunery.runs.doctor import doctor
from tunery.runs.workdir import WorkFolder
from tunery.tracking.store import Store


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda _seconds: "https://huggingface.co: ConnectError")
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "home"))


def shown(uri: str, *, mend: bool = False) -> str:
    stream = io.StringIO()
    doctor(Terminal(Console(file=stream, width=220)), mend=mend, tracking_uri=uri)
    return stream.getvalue()


def test_the_table_says_device_versions_extras_store_and_network(store: Store) -> None:
    text = shown(store.uri)
    for part in (
        "cpu, fp32",
        "mlflow 3",
        "extra chat",
        f"{store.uri} answers",
        "no Hub (https://hugg",
    ):
        assert part in text
    assert "no run stands RUNNING" in text


def test_an_extra_that_is_not_there_is_named_in_brackets_as_pip_wants_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunery.runs.doctor._EXTRAS", {"chat": "a_module_that_nobody_has"})
    assert 'pip install "tunery[chat]"' in shown(store.uri)


def test_only_mend_closes_runs_and_only_those_that_nobody_works_on(store: Store) -> None:
    left, elsewhere = left_running(store, ended_process()), left_running(store, ELSEWHERE)
    assert "1 of them were left" in shown(store.uri)
    assert store.client.get_run(left).info.status == "RUNNING"
    assert f"run {left} is KILLED now" in shown(store.uri, mend=True)
    assert store.client.get_run(left).info.status == "KILLED"
    assert store.client.get_run(elsewhere).info.status == "RUNNING"


def test_checkpoints_of_this_machine_tell_of_a_run_that_says_nothing_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(folder: WorkFolder) -> None:
        raise RunHeld("run", "another process is training it now")

    run_id = left_running(store, None)
    WorkFolder.of(run_id).path.mkdir(parents=True)
    shown(store.uri, mend=True)  # it wrote a point just now, perhaps on a machine whose lock is not seen here
    assert store.client.get_run(run_id).info.status == "RUNNING"
    monkeypatch.setattr("tunery.runs.doctor._RECENT_SECONDS", -1.0)
    with monkeypatch.context() as taken:
        taken.setattr(WorkFolder, "held", held)
        shown(store.uri, mend=True)
    assert store.client.get_run(run_id).info.status == "RUNNING"
    shown(store.uri, mend=True)
    assert store.client.get_run(run_id).info.status == "KILLED"


def test_a_folder_without_a_store_gets_none(tmp_path: Path) -> None:
    assert "none yet, the first run makes it" in shown(f"sqlite:///{tmp_path}/mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_used_is_shown_and_then_ends_the_command(tmp_path: Path) -> None:
    stream = io.StringIO()
    with pytest.raises(TrackingError):
        doctor(Terminal(Console(file=stream, width=500)), tracking_uri="file:///nowhere")
    assert "MLflow no longer writes runs to plain folders" in stream.getvalue()
