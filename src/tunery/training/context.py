"""One optimisation as `fit` and its trainer share it: what is trained, how it is measured, how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunery.config.training import TrainingConfig
from tunery.records import Example, PreparedData, Report, StepMetrics
from tunery.training.nll import validation_nll
from tunery.training.progress import TrainingProgress
from tunery.training.stop import StopSignal


class StepClock:
    """A stopwatch for optimisation alone: validation, scoring and writing pause it.

    Args:
        seconds: Already spent, in a run that is resumed.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._spent = seconds
        self._since: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        running = self._since is not None  # an outer pause stays in force
        self._spent, self._since = self.seconds, None
        try:
            yield
        finally:
            if running:
                self.start()


@dataclass
class TrainingContext:
    """Everything around the optimizer steps of one run.

    Args:
        model: What is trained, from `attach_adapter`.
        tokenizer: Of the base.
        data: Rows as tokens, and validation rows.
        config: The section `training`.
        max_length: The length that packing fills, in tokens.
        out: The run's folder.
        report: Called with the metrics of each step; may raise to stop the run.
        score: Scores the model as it is on dev items; None if checkpoints are not scored.
        progress: How far the run has come.
        stop: Set by a signal.
        due: Optimizer steps after which a checkpoint is measured and written; known when training begins.
        tokens_reported, seconds_reported: Totals at the last report, from which the speed since then follows.
    """

    model: Any
    tokenizer: Any
    data: PreparedData
    config: TrainingConfig
    max_length: int
    out: Path
    report: Report
    score: Callable[[], float] | None
    progress: TrainingProgress
    stop: StopSignal
    clock: StepClock = field(init=False)
    device: str = field(init=False)
    due: frozenset[int] = frozenset()
    tokens_reported: int = 0
    seconds_reported: float = 0.0

    def __post_init__(self) -> None:
        self.clock = StepClock(self.progress.seconds)
        self.device = str(next(self.model.parameters()).device.type)

    def publish(self, step: int, values: dict[str, float]) -> None:
        """Report a step's metrics and keep them."""
        metrics = StepMetrics(step, values)
        self.progress.history.append(metrics)
        with self.clock.paused():
            self.report(metrics)

    def validation_nll(self) -> float | None:
        """Nats per target token of the model as it is; None if no validation row has a token to learn."""
        if not has_targets(self.data.validation):
            return None
        return validation_nll(
            self.model, self.data.validation, batch_size=self.config.micro_batch_size, device=self.device
        )


def has_targets(examples: Sequence[Example]) -> bool:
    """Whether any row has a token to learn; the first token of a row is never one."""
    return any(any(example.trained[1:]) for example in examples)
