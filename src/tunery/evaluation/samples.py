"""samples/<task>.parquet: every item with its answer, so that runs can be compared item by item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pandas as pd


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
