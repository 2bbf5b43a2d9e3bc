"""What a command shows while it runs. The base classes show nothing: override what should be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.records.runs import StepMetrics
    from tunery.records.studies import TrialRow


class Observer:
    """Receives the progress of a run, in the order in which it happens."""

    def step(self, text: str) -> None:
        """A stage begins, or there is a note for the user."""

    def show(self, renderable: RenderableType) -> None:
        """A table or a text is ready."""

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """An optimizer step is done."""

    def end_training(self) -> None:
        """Training has ended, well or not."""


class StudyObserver(Observer):
    """Receives the progress of a study."""

    def begin(self, name: str, total: int, done: int) -> None:
        """A study begins or is resumed: it has `total` trials, of which `done` have ended before."""

    def finals(self, count: int) -> None:
        """After its trials, the study trains finalists again, `count` times in all; known before it begins."""

    def trial_began(self, number: int, name: str, worker: int) -> None:
        """A trial has begun, or is retried."""

    def trial_step(self, number: int, step: int, total_steps: int, loss: float | None) -> None:
        """An optimizer step of a trial is done."""

    def waiting(self) -> None:
        """Other processes run the trials; called often, whether one has come further or not."""

    def trial_ended(self, row: TrialRow, best: TrialRow | None) -> None:
        """A trial has ended; `best` is the best feasible trial so far."""

    def phase(self, text: str) -> None:
        """A part of the study other than its trials begins."""
