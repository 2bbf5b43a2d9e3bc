"""Where a run keeps what it may need again: checkpoints, until the run has ended well."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkFolder:
    """A run's folder under TUNERY_HOME (default: ~/.cache/tunery), outside of any project and any store."""

    path: Path

    @staticmethod
    def of(run_id: str) -> WorkFolder:
        """The folder that belongs to a run, whether it is there or not."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        home = Path(os.environ.get("TUNERY_HOME") or cache / "tunery")
        return WorkFolder(home.expanduser().resolve() / "runs" / run_id)

    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint; None where the run was killed before the first, or on another machine."""
        from tunery.training.fit import latest_checkpoint

        return latest_checkpoint(self.path)

    def remove(self) -> None:
        """Delete the folder: the adapter is in the store, the checkpoints are not needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)
