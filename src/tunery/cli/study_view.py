"""What `tunery tune` shows while a study runs: a line for each trial that ends and, on a terminal, a live view."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunery.cli.terminal import Terminal
from tunery.records.studies import TrialRow
from tunery.reporting.pace import QUIET_SECONDS
from tunery.reporting.text import counted, duration, listed, one_line, shown
from tunery.runs.observer import StudyObserver

_BAR_COLUMNS = 24
_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red"}


@dataclass
class _Running:
    """A running trial; `step` stays 0 for one that another process runs."""

    name: str
    worker: int
    began: float
    step: int = 0
    total_steps: int = 0
    loss: float | None = None


class StudyView(Terminal, StudyObserver):
    """A live view on a real terminal; plain lines anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._name, self._total, self._done_before = "", 0, 0
        self._began = self._last_line_at = time.monotonic()
        self._running: dict[int, _Running] = {}
        self._ended: dict[int, TrialRow] = {}
        self._best: TrialRow | None = None
        self._at_once = 0  # the most trials that ran at the same time
        self._phase = ""
        self._finals = 0
        self._live: Live | None = None

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, name: str, total: int, done: int) -> None:
        """Print the study's size, and start the live view on a terminal."""
        self._name, self._total, self._done_before = name, total, done
        self._began = self._last_line_at = time.monotonic()
        already = f", {done} of them done" if done else ""
        self.step(f"study {name}: {counted(total, 'trial')}{already}")
        if self.console.is_terminal and not self.console.is_dumb_terminal and self._live is None:
            self._live = Live(console=self.console, transient=True, refresh_per_second=2, get_renderable=self._picture)
            self._live.start()

    def finals(self, count: int) -> None:
        """Count the trainings of finalists into the time left."""
        self._finals = count

    def trial_began(self, number: int, name: str, worker: int) -> None:
        """Add a trial to the live view."""
        self._ended.pop(number, None)
        self._running[number] = _Running(name, worker, time.monotonic())
        self._at_once = max(self._at_once, len(self._running))

    def trial_step(self, number: int, step: int, total_steps: int, loss: float | None) -> None:
        """An optimizer step of a trial is done."""
        running = self._running.get(number)
        if running is None:
            return
        running.step, running.total_steps = step, total_steps
        running.loss = running.loss if loss is None else loss
        if self._is_quiet:
            self._line(Text("  ").append_text(_progress_of(number, running)))

    def waiting(self) -> None:
        """Print how far the trials of other processes are, if a log was silent for long."""
        if self._is_quiet:
            for number, running in sorted(self._running.copy().items()):
                self._line(Text("  ").append_text(_progress_of(number, running)))

    def trial_ended(self, row: TrialRow, best: TrialRow | None) -> None:
        """Print a line, and take the trial out of the live view."""
        self._running.pop(row.number, None)
        self._ended[row.number] = row
        self._best = best or self._best
        self._line(self._ending(row))

    def phase(self, text: str) -> None:
        """Print what begins, and clear the trials from the live view."""
        self._phase = text
        self._running.clear()
        self.step(text)

    # ---- lines of a log

    @property
    def _is_quiet(self) -> bool:
        return self._live is None and time.monotonic() - self._last_line_at >= QUIET_SECONDS

    def _line(self, text: Text) -> None:
        self._last_line_at = time.monotonic()
        self.console.print(text, soft_wrap=True)  # a log keeps a line a trial, however long its name is

    def _ending(self, row: TrialRow) -> Text:
        text = Text(f"  {self._done}/{self._total}  trial {row.number} ")
        text.append(row.failure or row.state, style=_STYLES.get(row.state, ""))
        if row.state == "complete" and not row.feasible:
            text.append(" (constraint not met)", style="yellow")
        best = "" if self._best is None else f"best {_values(self._best)} (trial {self._best.number})"
        if self._best is not None and self._best.number == row.number:
            best = "best so far"
        parts = [_values(row), "" if row.seconds is None else duration(row.seconds), best, self._left()]
        text.append("".join(f", {part}" for part in parts if part))
        text.append(f"  {row.name}", style="dim")
        if row.failure is not None and row.reason:
            text.append(f"  {one_line(row.reason)}", style="red")
        return text

    @property
    def _done(self) -> int:
        return self._done_before + len(self._ended)

    def _left(self) -> str:
        """Time left, finals included, by the mean duration of the trials that this command saw end."""
        seconds = [row.seconds for row in list(self._ended.values()) if row.seconds is not None]
        missing = self._total - self._done + self._finals
        if not seconds or missing <= 0 or self._phase:
            return ""
        cost = sum(seconds) / len(seconds) * missing
        workers = max(1, self._at_once)
        shared = f" ({duration(cost)} of work)" if workers > 1 else ""
        return f"about {duration(cost / workers)} left{shared}"

    # ---- the live view

    def _picture(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=max(1, self._total), completed=self._done, width=_BAR_COLUMNS)
        head.add_row(Text(self._name, style="bold"), bar, f"{self._done}/{self._total} trials")
        best = Text()
        if self._best is not None:
            best = Text(f"trial {self._best.number}: {_values(self._best)}", style="green")
            best.append(f"  {self._best.name}", style="dim")
        lines = [
            ("time", Text(", ".join(filter(None, (duration(time.monotonic() - self._began), self._left()))))),
            ("ended", Text(self._counts())),
            ("best", best),
            ("now", Text(self._phase)),
        ]
        # A copy: workers report from threads of their own.
        lines += [("running", _progress_of(number, one)) for number, one in sorted(self._running.copy().items())]
        # Each is cut at the terminal's width.
        cut = (
            Text(f"{label:<9}", no_wrap=True, overflow="ellipsis").append(text) for label, text in lines if text.plain
        )
        return Group(head, *cut)

    def _counts(self) -> str:
        rows = list(self._ended.values())
        states, failures = Counter(row.state for row in rows), Counter(row.failure for row in rows if row.failure)
        said = [f"{self._done_before} before"] if self._done_before else []
        said += [f"{states[state]} {state}" for state in _STYLES if states[state]]
        why = listed([f"{name} {count}" for name, count in sorted(failures.items())])
        return f"{', '.join(said) or 'none yet'}{f' ({why})' if why else ''}"


def _values(row: TrialRow) -> str:
    return ", ".join(f"{name} {shown(name, value)}" for name, value in row.values.items())


def _progress_of(number: int, running: _Running) -> Text:
    text = Text(f"trial {number}: ")
    if running.total_steps:
        text.append(f"step {running.step}/{running.total_steps}")
        text.append("" if running.loss is None else f", train/loss {running.loss:.4f}")
    else:
        text.append(f"running for {duration(time.monotonic() - running.began)}")
    return text.append(f"  {running.name}", style="dim")
