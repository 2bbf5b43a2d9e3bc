"""How far a run has come: what was reported, which checkpoint is best so far. Kept in every checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tunery.records import StepMetrics

PROGRESS = "progress.json"
KeepBy = Literal["validation/nll", "score", "last"]


@dataclass
class TrainingProgress:
    """The part of a run that transformers' own state does not know.

    Args:
        keep_by: The rule that chooses the kept checkpoint.
        history: Every StepMetrics reported, in order.
        best_step, best_value: Of the best checkpoint so far; None before the first.
        without_improvement: Checkpoints since the best one.
        seconds: Spent on optimisation, without validation, scoring and writing.
    """

    keep_by: KeepBy
    history: list[StepMetrics] = field(default_factory=list)
    step: int = 0
    total_steps: int = 0
    best_step: int | None = None
    best_value: float | None = None
    without_improvement: int = 0
    validation_nll: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
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
        record = {
            **self.__dict__,
            "history": [{"step": entry.step, "values": dict(entry.values)} for entry in self.history],
        }
        (folder / PROGRESS).write_text(json.dumps(record), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote."""
        record: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        record["history"] = [StepMetrics(entry["step"], entry["values"]) for entry in record["history"]]
        record["validation_nll"] = {int(step): nll for step, nll in record["validation_nll"].items()}
        return cls(**record)
