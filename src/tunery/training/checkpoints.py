"""Checkpoints on disk: when they are written, which are whole, which may go."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tunery.training.progress import PROGRESS

FOLDER = "checkpoints"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_steps(total_steps: int, checkpoints: int) -> frozenset[int]:
    """Optimizer steps after which a checkpoint is written: evenly spaced, the last one at the last step."""
    return frozenset(max(1, round(total_steps * part / checkpoints)) for part in range(1, checkpoints + 1))


def latest_checkpoint(out: Path) -> Path | None:
    """The furthest whole checkpoint of a run, to resume from.

    A checkpoint gets its name by renaming, after its last file was written: one torn by a kill has no such name.

    Args:
        out: The folder that was given to `fit`.
    """
    whole = _whole(out / FOLDER)
    return whole[max(whole)] if whole else None


def checkpoint_folder(out: Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step lies."""
    return out / FOLDER / f"checkpoint-{step}"


def prune_checkpoints(out: Path, keep: set[int]) -> None:
    """Delete the checkpoints of other steps: with their optimizer state they are several times an adapter's size."""
    for step, folder in _whole(out / FOLDER).items():
        if step not in keep:
            shutil.rmtree(folder)


def clear_checkpoints(out: Path) -> None:
    """Delete what an earlier run left, torn checkpoints too."""
    if (out / FOLDER).is_dir():
        shutil.rmtree(out / FOLDER)


def _whole(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    named = {path: _NAME.fullmatch(path.name) for path in folder.iterdir()}
    return {int(match[1]): path for path, match in named.items() if match and (path / PROGRESS).is_file()}
