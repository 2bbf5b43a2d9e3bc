"""What a verb prints while it runs: its steps, tables, and a progress bar while training."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment

from tunery.records.runs import StepMetrics
from tunery.reporting.pace import QUIET_SECONDS, listening
from tunery.reporting.text import visible
from tunery.runs.observer import Observer

_LOG_COLUMNS = 110  # Width without a terminal: no score wraps.
_TRAIN, _VALIDATION = ("train/kl", "train/loss"), ("validation/kl", "validation/nll")
_PLAIN_LINES = 10  # A log file gets about this many lines of training instead of a progress bar.


class _SafeConsole(Console):
    """A console whose terminal obeys nothing that stands in a text: names of runs are other people's."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class Terminal(Observer):
    """Prints to stdout; the progress bar is drawn only on a real terminal, a log gets plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        width = None if sys.stdout.isatty() else _LOG_COLUMNS
        self.console = console or _SafeConsole(file=sys.stdout, width=width, highlight=False)
        self._progress: Progress | None = None
        self._last_line, self._last_time = 0, time.monotonic()
        self._listening = ExitStack()

    def __enter__(self) -> Self:
        if not self.console.is_terminal:
            self._listening.enter_context(listening(lambda line: self.console.print(f"  {escape(line)}")))
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.end_training()

    def step(self, text: str) -> None:
        """Print what begins now."""
        self.console.print(f"[bold cyan]»[/] {escape(text)}")

    def show(self, renderable: RenderableType) -> None:
        """Print a table or a text."""
        self.console.print(renderable)

    def training(self, metrics: StepMetrics, total_steps: int) -> None:
        """Move the progress bar, or print a line now and then."""
        loss, validation = (_shown(metrics.values, names) for names in (_TRAIN, _VALIDATION))
        if self.console.is_terminal:
            self._bar(metrics.step, total_steps, loss)
        elif loss:
            now, steps = time.monotonic(), metrics.step - self._last_line
            if steps >= max(1, total_steps // _PLAIN_LINES) or now - self._last_time >= QUIET_SECONDS:
                self._last_line, self._last_time = metrics.step, now
                self.console.print(f"  step {metrics.step}/{total_steps}  {loss}")
        if validation:
            self.console.print(f"  step {metrics.step}: {validation}")

    def end_training(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _bar(self, step: int, total: int, loss: str) -> None:
        if self._progress is None:
            loss_column = TextColumn("{task.fields[loss]}")
            columns = (BarColumn(), MofNCompleteColumn(), loss_column, TimeElapsedColumn(), TimeRemainingColumn())
            self._progress = Progress(TextColumn("  training"), *columns, console=self.console)
            self._progress.add_task("training", total=total, loss="train/loss …")
            self._progress.start()
        task = self._progress.task_ids[0]
        self._progress.update(task, completed=step, total=total)
        if loss:
            self._progress.update(task, loss=loss)


def _shown(values: Mapping[str, float], names: Sequence[str]) -> str:
    """Those of the values that there are: of distillation, what it minimises stands first."""
    return ", ".join(f"{name} {values[name]:.4f}" for name in names if name in values)
