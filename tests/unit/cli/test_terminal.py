"""What a person sees."""

from __future__ import annotations

import io

from rich.console import Console

from tunery.cli.terminal import Terminal
from tunery.records import StepMetrics


def test_brackets_in_a_name_are_printed_as_they_are() -> None:
    page = io.StringIO()
    Terminal(Console(file=page, width=80)).step("loading [/x] and rows[i].jsonl")
    assert "loading [/x] and rows[i].jsonl" in page.getvalue()


def test_a_log_gets_about_ten_lines_of_training() -> None:
    page = io.StringIO()
    terminal = Terminal(Console(file=page, width=80))
    for step in range(1, 201):
        terminal.training(StepMetrics(step, {"train/loss": 1.0}), 200)
    assert page.getvalue().count("train/loss") == 10


def test_a_terminal_gets_one_moving_line() -> None:
    page = io.StringIO()
    with Terminal(Console(file=page, width=80, force_terminal=True)) as terminal:
        for step in range(1, 4):
            terminal.training(StepMetrics(step, {"train/loss": 1.25}), 3)
    assert "3/3" in page.getvalue()
    assert "1.2500" in page.getvalue()
