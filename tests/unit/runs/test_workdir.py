from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunery.errors import RefError, StorageError
from tunery.runs.workdir import WorkFolder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "home"))


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """A process that trains the run abc."""
    code = (
        "import time; from tunery.runs.workdir import WorkFolder\n"
        "with WorkFolder.of('abc').held():\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_that_another_process_trains_cannot_be_held(holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RefError, match="run abc: another process is training it now"), WorkFolder.of("abc").held():
        pass
    with WorkFolder.of("abd").held():
        pass


def test_a_killed_process_leaves_no_lock(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with WorkFolder.of("abc").held():
        pass


def test_who_holds_a_run_may_hold_it_again() -> None:
    with WorkFolder.of("abc").held(), WorkFolder.of("abc").held():
        pass


def test_a_run_that_is_done_with_leaves_nothing(tmp_path: Path) -> None:
    work = WorkFolder.of("abc")
    with work.held():
        (work.path / "checkpoint-1").mkdir(parents=True)
    work.remove()
    assert list((tmp_path / "home" / "runs").iterdir()) == []
    with work.held():
        pass


def test_the_lock_of_a_run_that_another_process_trains_stays(holder: subprocess.Popen[str]) -> None:
    WorkFolder.of("abc").remove()
    with pytest.raises(RefError, match="another process is training it now"), WorkFolder.of("abc").held():
        pass


def test_who_opened_a_lock_before_it_was_deleted_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the holder removes the file and ends: a third process may lock a new one."""
    import fcntl

    work, lock = WorkFolder.of("abc"), fcntl.flock

    def removed_meanwhile(file: int, how: int) -> None:
        work._lock.unlink(missing_ok=True)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(RefError, match="another process"), work.held():
        pass


def test_a_lock_that_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"abc\.lock: the lock cannot be written"), WorkFolder.of("abc").held():
        pass
