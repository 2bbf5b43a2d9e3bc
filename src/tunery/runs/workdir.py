"""Where a run keeps what it may need again: checkpoints, until the run has ended well."""

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
    """Hold a lock that the system frees when the process ends, however that happens.

    Args:
        file: Of the lock; its folder is made.
        taken: Raised where it is held.
        again: Whether it counts once for one process: who holds it may hold it again.

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
        advice = "Its folder must be writable, and take locks; TUNERY_HOME and --storage say where it lies."
        raise StorageError(str(file), f"the lock cannot be written ({error}). {advice}") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class WorkFolder:
    """A run's folder under TUNERY_HOME, outside of any project and any store."""

    path: Path

    @staticmethod
    def of(run_id: str) -> WorkFolder:
        """The folder that belongs to a run, whether it is there or not."""
        return WorkFolder(home() / "runs" / run_id)

    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint; None where the run was killed before the first, or on another machine."""
        from tunery.training.fit import latest_checkpoint

        return latest_checkpoint(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out: two that write and prune the same checkpoints ruin both.

        Raises:
            RunHeld: If another process holds it.
            StorageError: If the lock file, <run id>.lock beside the folder, cannot be written.
        """
        advice = "Wait until it has ended, or stop it first."
        taken = RunHeld(f"run {self.path.name}", f"another process is training it now. {advice}")
        with exclusive(self._lock, taken, again=True):
            yield

    def remove(self) -> None:
        """Delete the folder and its lock: the adapter is in the store, the checkpoints are not needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)
        # Deleted only by who holds it. Whoever had opened it before finds it without a name and is refused (filelock
        # looks), so that nobody holds a deleted file beside the holder of a new one.
        with suppress(RunHeld, StorageError, OSError), self.held():
            self._lock.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")
