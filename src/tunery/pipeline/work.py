"""Where a run keeps what it may need again: checkpoints, until the run has ended well."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunery.errors import Fault, RefError


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

    def checkpoint(self, run_id: str) -> Path:
        """The newest whole checkpoint.

        Raises:
            RefError: If there is none to go on from.
        """
        from tunery.training.fit import latest_checkpoint

        found = latest_checkpoint(self.path)
        if found is None:
            fault = Fault("nothing to go on from", f"{self.path} holds no whole checkpoint", advice="Start a new run.")
            raise RefError(f"--resume {run_id}", fault)
        return found

    def remove(self) -> None:
        """Delete the folder: the adapter is in the store, the checkpoints are not needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)
