"""Checkpoints on disk: when they are written, which are whole, which may go; and the progress that each keeps."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tunery.errors import BaseModelError
from tunery.records import StepMetrics

FOLDER = "checkpoints"
PROGRESS = "progress.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_steps(total_steps: int, checkpoints: int) -> frozenset[int]:
    """Optimizer steps after which a checkpoint is written: evenly spaced, the last one at the last step."""
    return frozenset(max(1, round(total_steps * part / checkpoints)) for part in range(1, checkpoints + 1))


def latest_checkpoint(out: Path) -> Path | None:
    """The furthest whole checkpoint of a run whose folder `fit` was given, to resume from.

    A checkpoint gets its name by renaming, after its last file was written: one torn by a kill has no such name.
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


def _whole(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    named = {path: _NAME.fullmatch(path.name) for path in folder.iterdir()}
    return {int(match[1]): path for path, match in named.items() if match and (path / PROGRESS).is_file()}


@dataclass
class TrainingProgress:
    """The part of a run that transformers' own state does not know."""

    keep_by: Literal["validation/nll", "score", "last"]  # the rule that chooses the kept checkpoint
    history: list[StepMetrics] = field(default_factory=list)  # every StepMetrics reported, in order
    step: int = 0
    total_steps: int = 0
    best_step: int | None = None  # of the best checkpoint so far; None before the first
    best_value: float | None = None
    without_improvement: int = 0  # checkpoints since the best one
    validation_nll: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0  # spent on optimisation, without validation, scoring and writing
    stopped_early: bool = False

    @property
    def finished(self) -> bool:
        """Whether no step is left to be done."""
        return self.stopped_early or 0 < self.total_steps <= self.step

    def note_checkpoint(self, step: int, nll: float | None, score: float | None) -> None:
        """Take in a checkpoint's measurements; a tie keeps the earlier one, which trained less."""
        if nll is not None:
            self.validation_nll[step] = nll
        value = {"validation/nll": nll, "score": score, "last": None}[self.keep_by]
        if self.keep_by == "last" or self._improves(value):
            self.best_step, self.best_value, self.without_improvement = step, value, 0
        else:
            self.without_improvement += 1

    def _improves(self, value: float | None) -> bool:
        assert value is not None, f"a checkpoint was not measured by {self.keep_by}"
        if self.best_value is None:
            return True
        return value > self.best_value if self.keep_by == "score" else value < self.best_value

    def write(self, folder: Path) -> None:
        """Write progress.json; floats survive exactly (repr round-trips)."""
        history = [{"step": entry.step, "values": dict(entry.values)} for entry in self.history]
        record = {**self.__dict__, "history": history}
        (folder / PROGRESS).write_text(json.dumps(record), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            BaseModelError: If the folder is not a whole checkpoint.
        """
        if not (folder / PROGRESS).is_file():
            fault = f"is not a whole checkpoint: {PROGRESS} is missing. Start the run again."
            raise BaseModelError(str(folder), fault)
        record: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        record["history"] = [StepMetrics(entry["step"], entry["values"]) for entry in record["history"]]
        record["validation_nll"] = {int(step): nll for step, nll in record["validation_nll"].items()}
        return cls(**record)
