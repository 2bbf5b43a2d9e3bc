"""Checkpoints on disk: when they are written, which are whole, which may go; and the progress that each keeps."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tunery.errors import BaseModelError
from tunery.records.runs import StepMetrics

FOLDER = "checkpoints"
PROGRESS = "progress.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_steps(total_steps: int, checkpoints: int | Literal["epoch"], epoch_steps: int) -> frozenset[int]:
    """Optimizer steps after which a checkpoint is written: evenly spaced, or each epoch's last; and the last of all."""
    if checkpoints == "epoch":
        return frozenset([*range(epoch_steps, total_steps, epoch_steps), total_steps])
    return frozenset(max(1, round(total_steps * part / checkpoints)) for part in range(1, checkpoints + 1))


def latest_checkpoint(out: Path) -> Path | None:
    """The furthest whole checkpoint of a run whose folder `fit` was given, to resume from.

    A checkpoint gets its name by renaming, after its last file was written: one torn by a kill has no such name. One
    that was cut later, as by a power loss, is passed over, and so is one whose best checkpoint was.
    """
    named = _named(out / FOLDER)
    whole = {step: progress for step, folder in named.items() if (progress := _read_whole(folder)) is not None}
    usable = [step for step, progress in whole.items() if progress.best_step is None or progress.best_step in whole]
    return named[max(usable)] if usable else None


def damaged_checkpoints(out: Path) -> list[str]:
    """Names of the checkpoints of a run whose files are not what was written."""
    named = _named(out / FOLDER)
    return [named[step].name for step in sorted(named) if _read_whole(named[step]) is None]


def checkpoint_folder(out: Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step lies."""
    return out / FOLDER / f"checkpoint-{step}"


def prune_checkpoints(out: Path, keep: set[int]) -> None:
    """Delete the checkpoints of other steps: with their optimizer state they are several times an adapter's size."""
    for step, folder in _named(out / FOLDER).items():
        if step not in keep:
            shutil.rmtree(folder)


def _named(folder: Path) -> dict[int, Path]:
    """Checkpoints that were written to their end, whatever became of them since."""
    if not folder.is_dir():
        return {}
    named = {path: _NAME.fullmatch(path.name) for path in folder.iterdir()}
    return {int(match[1]): path for path, match in named.items() if match and (path / PROGRESS).is_file()}


def _read_whole(folder: Path) -> TrainingProgress | None:
    """A checkpoint's progress; None if a file of it is missing or has another size than it was written with."""
    try:
        progress = TrainingProgress.read(folder)
    except BaseModelError:
        return None
    return progress if progress.sizes.items() <= _sizes(folder).items() else None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file but progress.json, by its name."""
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name != PROGRESS}


@dataclass
class TrainingProgress:
    """The part of a run that transformers' own state does not know."""

    keep_by: Literal["validation/nll", "validation/kl", "score", "last"]  # the rule that chooses the kept checkpoint
    history: list[StepMetrics] = field(default_factory=list)  # every StepMetrics reported, in order
    step: int = 0
    total_steps: int = 0
    best_step: int | None = None  # of the best checkpoint so far; None before the first
    best_value: float | None = None
    without_improvement: int = 0  # checkpoints since the best one
    validation_nll: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0  # spent on optimisation, without validation, scoring and writing
    stopped_early: bool = False
    unlogged: dict[str, float] = field(default_factory=dict)  # sums since the last point of the curves, at `step`
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of the checkpoint's other files, by name

    @property
    def finished(self) -> bool:
        """Whether no step is left to be done."""
        return self.stopped_early or 0 < self.total_steps <= self.step

    def note_checkpoint(self, step: int, nll: float | None, score: float | None, kl: float | None = None) -> None:
        """Take in a checkpoint's measurements; a tie keeps the earlier one, which trained less."""
        if nll is not None:
            self.validation_nll[step] = nll
        value = {"validation/nll": nll, "validation/kl": kl, "score": score, "last": None}[self.keep_by]
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
        """Write progress.json, last of a checkpoint's files; floats survive exactly (repr round-trips)."""
        self.sizes = _sizes(folder)
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
        try:
            record: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        except ValueError as error:  # cut, or not even text
            fault = f"is not a whole checkpoint: {PROGRESS} cannot be read ({error}). Start the run again."
            raise BaseModelError(str(folder), fault) from error
        record["history"] = [StepMetrics(entry["step"], entry["values"]) for entry in record["history"]]
        record["validation_nll"] = {int(step): nll for step, nll in record["validation_nll"].items()}
        return cls(**record)
