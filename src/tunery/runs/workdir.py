"""Where a run keeps its checkpoints until it has ended well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tunery.errors import InputError, RunHeld, StorageError


def home() -> Path:
    """TUNERY_HOME; by default ~/.cache/tunery."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TUNERY_HOME") or cache / "tunery").expanduser().resolve()


@contextmanager
def exclusive(file: Path, taken: InputError, *, again: bool = False) -> Iterator[None]:
    """Hold a lock that the system releases when the process ends, however that happens.

    Args:
        file: The lock file; its folder is created.
        taken: Raised if another process holds the lock.
        again: Whether a process that holds the lock may take it again.

    Raises:
        StorageError: If the file cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0, is_singleton=again)
        lock.acquire()
    except Timeout:
        raise taken from None
    except (OSError, NotImplementedError) as error:  # the latter: a network folder without locks
        advice = "Its folder must be writable and support locks; TUNERY_HOME and --storage say where it is."
        raise StorageError(str(file), f"the lock cannot be written ({error}). {advice}") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class WorkFolder:
    """A run's folder under TUNERY_HOME, apart from projects and stores."""

    path: Path

    @staticmethod
    def of(run_id: str) -> WorkFolder:
        """The folder of a run, whether it exists or not."""
        return WorkFolder(home() / "runs" / run_id)

    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint; None if the run was killed before its first, or on another machine."""
        from tunery.training.checkpoints import latest_checkpoint

        return latest_checkpoint(self.path)

    def damage(self) -> str | None:
        """A sentence on checkpoints that are no longer what was written; None if there are none."""
        from tunery.training.checkpoints import damaged_checkpoints

        damaged = ", ".join(damaged_checkpoints(self.path))
        return f"{self.path}: files of {damaged} were cut or are gone, so an earlier state is used" if damaged else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out: two that write and prune the same checkpoints ruin each other's.

        Raises:
            RunHeld: If another process holds it.
            StorageError: If the lock file, <run id>.lock beside the folder, cannot be written.
        """
        advice = "Wait until it has ended, or stop it first."
        taken = RunHeld(f"run {self.path.name}", f"another process is training it now. {advice}")
        with exclusive(self._lock, taken, again=True):
            yield

    def remove(self) -> None:
        """Delete the folder and its lock: the adapter is in the store, and the checkpoints are no longer needed."""
        shutil.rmtree(self.path, ignore_errors=True)
        # Only the holder deletes the lock file. A process that had opened it before finds that it has no name any more
        # and is refused (filelock checks), so that a deleted lock is never held beside a new one.
        with suppress(RunHeld, StorageError, OSError), self.held():
            self._lock.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")
