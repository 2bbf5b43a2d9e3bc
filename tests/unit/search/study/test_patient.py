"""A database that is away for a while, and one that stays away."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from tunery.errors import StorageError
from tunery.search.study import patient
from tunery.search.study.patient import PatientStorage
from tunery.search.study.storage import storage_errors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "optuna.db"


@pytest.fixture
def study(file: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    monkeypatch.setattr(patient, "_PAUSE_SECONDS", 0.02)
    storage = PatientStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 0.01}})
    return optuna.create_study(study_name="s", storage=storage)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process writes into the file, which it does not leave."""
    connection = sqlite3.connect(file, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def test_a_study_goes_on_when_its_database_is_back(
    study: optuna.Study, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tunery.storage"), locked(file):
        worker = threading.Thread(target=lambda: study.set_user_attr("key", 1))
        worker.start()
        time.sleep(0.3)
        assert worker.is_alive()
    worker.join(10)
    assert study.user_attrs == {"key": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "the study's storage does not answer (database is locked): waiting for it for up to 5 minutes",
        "the study's storage answers again",
    ]


def test_a_database_that_stays_away_is_named_with_its_own_reason_and_asked_once_more_each_time(
    study: optuna.Study, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient, "PATIENCE_SECONDS", 0.1)
    with locked(file):
        with pytest.raises(StorageError, match=r"storage has not answered .*\(database is locked\)\. Run the same"):
            study.set_user_attr("key", 1)
        monkeypatch.setattr(patient, "_PAUSE_SECONDS", 100.0)
        began = time.monotonic()
        with pytest.raises(StorageError), storage_errors("sqlite:///x"):
            study.set_user_attr("key", 1)
        assert time.monotonic() - began < 50
    study.set_user_attr("key", 2)
    assert study.user_attrs == {"key": 2}


def test_a_heartbeat_that_cannot_be_written_is_no_error(
    study: optuna.Study, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient, "PATIENCE_SECONDS", 0.0)
    trial = study.ask()
    with locked(file):
        study._storage._backend.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def test_what_will_not_pass_is_told_at_once(study: optuna.Study) -> None:
    with pytest.raises(StorageInternalError):
        study._storage._backend.asked(_without_table)  # type: ignore[attr-defined]


def _without_table() -> None:
    cause = OperationalError("SELECT", {}, sqlite3.OperationalError("no such table: trials"))
    raise StorageInternalError("An exception is raised during the commit.") from cause
