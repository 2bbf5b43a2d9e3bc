"""What the pipeline tells whoever is watching: a terminal, a test, nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.records import StepMetrics


class Observer(Protocol):
    """Receives what a person would want to see, in the order in which it happens."""

    def step(self, text: str) -> None:
        """A stage begins."""

    def show(self, renderable: RenderableType) -> None:
        """A table or a text is ready."""

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """An optimizer step is done."""

    def end_training(self) -> None:
        """Training has ended, well or not."""


class SilentObserver:
    """A watch that says nothing."""

    def step(self, text: str) -> None:
        """A stage begins."""

    def show(self, renderable: RenderableType) -> None:
        """A table or a text is ready."""

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """An optimizer step is done."""

    def end_training(self) -> None:
        """Training has ended."""
