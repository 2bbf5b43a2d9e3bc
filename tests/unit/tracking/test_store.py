from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tunery.errors import StoreAway, TrackingError
from tunery.tracking.store import Store, connect, decisions_of, refusals, wait_until_back


def test_four_processes_set_up_one_fresh_database(tmp_path: Path) -> None:
    code = "from tunery.tracking.store import connect; print(connect(None, 'shared').experiment_id())"
    start = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(start, cwd=tmp_path, stdout=-1, stderr=-1, text=True, env=_bare_environment())
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    assert len({out.strip() for out, _ in ended}) == 1
    assert [err for _, err in ended] == [""] * 4


def test_a_database_whose_making_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            connect(f"sqlite:///{tmp_path}/new.db", "quickstart")
    assert not (tmp_path / "new.db").exists() or (tmp_path / "new.db").stat().st_size == 0
    assert connect(f"sqlite:///{tmp_path}/new.db", "quickstart").experiment_id()
    assert not list(tmp_path.glob(".new.db*"))


def test_a_database_that_another_process_left_half_made_is_told(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "half.db")) as half:
        half.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step)")
    with pytest.raises(TrackingError, match=r"tables cannot be set up \(.*\).*may have been killed"):
        connect(f"sqlite:///{tmp_path}/half.db", "quickstart")


def test_a_disk_that_is_full_is_not_told_by_the_thread_that_samples_the_machine(store: Store) -> None:
    logger = logging.getLogger("mlflow.system_metrics.system_metrics_monitor")
    assert not logger.isEnabledFor(logging.ERROR)
    assert logging.getLogger("mlflow.tracking").isEnabledFor(logging.WARNING)


def test_runs_of_a_local_store_lie_beside_the_database(store: Store, tmp_path: Path) -> None:
    run = store.client.create_run(store.experiment_id())
    assert Path(run.info.artifact_uri).is_relative_to(tmp_path / "mlruns" / "quickstart")


def test_a_relative_database_stays_the_same_after_a_change_of_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = connect("sqlite:///mlflow.db", "quickstart")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again.client.create_run(again.experiment_id())
    assert again.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_deleted_experiment_is_told_with_the_way_back(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id())
    with pytest.raises(
        TrackingError, match=r"quickstart' was deleted\. Restore it: mlflow experiments restore -x \d+$"
    ):
        store.experiment_id()


@pytest.mark.parametrize("uri", ["file:///srv/runs", "./mlruns", "/srv/mlruns"])
def test_a_folder_of_runs_is_refused_with_the_way_out(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"no longer writes runs to plain folders\. Use sqlite:///mlflow\.db"):
        connect(uri, "x")


@pytest.mark.parametrize("uri", ["ftp://host/x", "postgres://host/x", "sqlite://"])
def test_an_unknown_scheme_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI is '.*', but must be"):
        connect(uri, "x")


def test_a_server_that_is_not_there_is_told_within_seconds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers here
        port = taken.getsockname()[1]
        _assert_told_soon(f"http://127.0.0.1:{port}")


def test_a_server_that_takes_the_call_and_stays_silent_is_told_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _assert_told_soon(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_database_server_that_is_not_there_is_told_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = _assert_told_soon(f"postgresql://me:hunter22@127.0.0.1:{taken.getsockname()[1]}/db")
    assert "hunter22" not in str(error)


def test_something_else_than_mlflow_at_the_address_is_told() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(TrackingError, match="Check MLFLOW_TRACKING_URI"):
            connect(f"http://127.0.0.1:{server.server_port}", "x")
    finally:
        server.shutdown()


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"the SQLite database cannot be written \(unable to open"):
        connect(f"sqlite:///{tmp_path}/mlflow.db", "x")


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("my notes " * 200)
    with pytest.raises(TrackingError, match=r"or a damaged one \(file is not a database\)"):
        connect(f"sqlite:///{tmp_path}/mlflow.db", "x")
    assert (tmp_path / "mlflow.db").read_text() == "my notes " * 200


def test_a_database_that_another_process_keeps_locked_is_told_as_that() -> None:
    from mlflow.exceptions import MlflowException

    said = "(raised as a result of Query-invoked autoflush)\n(sqlite3.OperationalError) database is locked\n[SQL: ...]"
    with pytest.raises(StoreAway, match="another process has kept the SQLite database locked"), refusals("sqlite:///x"):
        raise MlflowException(said, "TEMPORARILY_UNAVAILABLE")


def _assert_told_soon(uri: str) -> TrackingError:
    start = time.monotonic()
    with pytest.raises(TrackingError, match="the tracking server does not answer") as caught:
        connect(uri, "x")
    assert time.monotonic() - start < 8
    return caught.value


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


def test_work_that_nobody_watches_waits_until_the_store_is_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    answers: list[MlflowException | None] = [MlflowException("refused", "TEMPORARILY_UNAVAILABLE"), None]

    def ask(**_: object) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(store.client, "search_experiments", ask)
    wait_until_back(store)
    assert answers == []


def test_a_store_that_stays_away_ends_the_waiting_with_its_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(**_: object) -> None:
        raise MlflowException("connection refused", "TEMPORARILY_UNAVAILABLE")

    monkeypatch.setattr(store.client, "search_experiments", refuse)
    monkeypatch.setattr("tunery.tracking.store.UNATTENDED_SECONDS", -1.0)
    with pytest.raises(StoreAway, match="connection refused"):
        wait_until_back(store)


def test_an_experiment_shows_the_views_for_training_whoever_made_it(store: Store) -> None:
    own = store.client.get_experiment(store.experiment_id())
    theirs = store.client.create_experiment("theirs", tags={"mlflow.note.content": "mine"})
    store.describe_experiment(store.client.get_experiment(theirs))
    tags = store.client.get_experiment(theirs).tags
    for found in (own.tags, tags):
        assert found["mlflow.experimentKind"] == "custom_model_development"
        assert found["mlflow.experiment.primaryMetric.name"] == "score"
    assert "tunery.kind" in own.tags["mlflow.note.content"]
    assert tags["mlflow.note.content"] == "mine"


def test_a_projects_experiment_has_a_view_of_its_trainings_by_score_and_decisions_a_word_of_their_own(
    store: Store,
) -> None:
    runs, decisions = (
        store.client.get_experiment(store.experiment_id(name)).tags for name in ("small", decisions_of("small"))
    )
    saved = json.loads(runs["mlflow.sharedViewState.tunery-scores"])
    view = json.loads(saved["state"])
    assert {"name": str, "createdAt": int, "state": str}.items() <= {
        key: type(one) for key, one in saved.items()
    }.items()
    assert {"metrics.`score`", "metrics.`delta/score`"} <= set(view["selectedColumns"])
    assert (view["orderByKey"], view["searchFilter"]) == ("metrics.`score`", "tags.`tunery.kind` = 'train'")
    assert decisions["mlflow.note.content"].startswith("Comparisons, promotions and votes")
    assert not any("score" in key or "sharedView" in key for key in decisions)
