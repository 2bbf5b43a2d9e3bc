"""One optimisation as `fit` and its trainer share it: what is trained, how it is measured, how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunery.config.training import TrainingConfig
from tunery.data.teacher_rows import TeacherRows
from tunery.records.rows import PreparedData
from tunery.records.runs import Report, StepMetrics
from tunery.training.checkpoints import TrainingProgress
from tunery.training.distillation import validation_kl
from tunery.training.nll import validation_nll
from tunery.training.router_load import RouterLoad
from tunery.training.stop import StopSignal
from tunery.training.targets import has_targets


class StepClock:
    """A stopwatch for optimisation alone: validation, scoring and writing pause it."""

    def __init__(self, seconds: float) -> None:
        self._spent = seconds  # already, in a run that is resumed
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


class Forwards:
    """The forward methods that a model had before a trainer was built on it.

    TRL puts a fused output head on the base and accelerate puts autocast around the whole. Left there, scores during
    training would be taken in another arithmetic than after it, and every further run on a resident base would add
    one more layer.
    """

    _NAMES = ("forward", "_original_forward")

    def __init__(self, model: Any) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._modules = [model] if base is model else [model, base]
        self._own = self._taken()

    def restore(self) -> None:
        """Put the forwards back as they were."""
        self._put(self._own)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The model as it was, for validation and scoring between steps."""
        patched = self._taken()
        self.restore()
        try:
            yield
        finally:
            self._put(patched)

    def _taken(self) -> list[dict[str, Any]]:
        return [{name: own[name] for name in self._NAMES if name in own} for own in map(vars, self._modules)]

    def _put(self, states: Sequence[dict[str, Any]]) -> None:
        for module, state in zip(self._modules, states, strict=True):
            for name in self._NAMES:
                module.__dict__.pop(name, None)
            module.__dict__.update(state)


@dataclass
class TrainingContext:
    """Everything around the optimizer steps of one run."""

    model: Any  # what is trained, from `attach_adapter`
    tokenizer: Any
    data: PreparedData
    config: TrainingConfig
    max_length: int  # the length that packing fills, in tokens
    out: Path  # the run's folder
    report: Report  # called with the metrics of each step; may raise to stop the run
    score: Callable[[], float] | None  # scores the model as it is on dev items; None if checkpoints are not scored
    progress: TrainingProgress
    stop: StopSignal
    teacher: TeacherRows | None = None  # of context distillation
    clock: StepClock = field(init=False)
    device: str = field(init=False)
    router: RouterLoad = field(init=False)
    # Optimizer steps after which a checkpoint is measured and written; known when training begins.
    due: frozenset[int] = frozenset()
    # Totals at the last report, from which the speed since then follows.
    tokens_reported: int = 0
    seconds_reported: float = 0.0

    def __post_init__(self) -> None:
        self.clock = StepClock(self.progress.seconds)
        self.device = str(next(self.model.parameters()).device.type)
        self.router = RouterLoad(self.model)

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
        size = self.config.micro_batch_size
        return validation_nll(self.model, self.data.validation, batch_size=size, device=self.device)

    def validation_kl(self) -> float | None:
        """Nats per target token between teacher and student; None without a teacher, or a token to learn."""
        if self.teacher is None or not has_targets(self.data.validation):
            return None
        rows, told, size = self.data.validation, self.teacher.validation(), self.config.micro_batch_size
        distillation = self.teacher.distillation
        return validation_kl(self.model, told, rows, distillation, batch_size=size, device=self.device)
