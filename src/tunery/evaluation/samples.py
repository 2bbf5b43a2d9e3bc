"""samples/<task>.parquet: every item with its answer, so that runs can be compared item by item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from tunery.errors import StorageError
from tunery.records import TaskResult

if TYPE_CHECKING:
    import pandas as pd


def write_samples(results: Mapping[str, TaskResult], folder: Path) -> list[Path]:
    """Write one file a task.

    Args:
        results: What was scored.
        folder: Where `samples/` is made.

    Returns:
        The files.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    target = folder / "samples"
    try:
        target.mkdir(parents=True, exist_ok=True)
        return [_write(result.samples, target / file_name(task)) for task, result in results.items()]
    except OSError as error:
        raise StorageError(str(target), f"cannot be written: {error.strerror or error}.") from error


def read_samples(folder: Path) -> dict[str, pd.DataFrame]:
    """Samples of every task that `write_samples` wrote into a folder, by task."""
    return read_folder(folder / "samples")


def read_folder(folder: Path) -> dict[str, pd.DataFrame]:
    """Samples of every task that has a file in a folder, by task; nothing where the folder is not there."""
    import pandas as pd

    return {unquote(path.stem): pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def file_name(task: str) -> str:
    """A file's name for a task; lm-eval names some of its tasks `group::task`, which not every file system takes."""
    return f"{quote(task, safe=' ')}.parquet"


def items_digest(item_ids: Iterable[object]) -> str:
    """Hash of the items that were scored, in any order: two scores with one digest are of the same items.

    Returns:
        32 hex digits; MLflow takes at most 36 characters as a dataset's digest.
    """
    return hashlib.sha256("\n".join(sorted(map(str, item_ids))).encode()).hexdigest()[:32]


def _write(samples: pd.DataFrame, path: Path) -> Path:
    samples.to_parquet(path, index=False)
    return path
