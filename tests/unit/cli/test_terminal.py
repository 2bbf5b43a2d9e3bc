"""What a person sees."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunery.cli import verbs
from tunery.cli.terminal import Terminal
from tunery.errors import InputError
from tunery.records.runs import StepMetrics
from tunery.reporting.pace import is_heard


def test_brackets_in_a_name_are_printed_as_they_are() -> None:
    page = io.StringIO()
    Terminal(Console(file=page, width=80)).step("loading [/x] and rows[i].jsonl")
    assert "loading [/x] and rows[i].jsonl" in page.getvalue()


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_only_a_log_hears_how_far_long_work_is(on_a_terminal: bool) -> None:
    with Terminal(Console(file=io.StringIO(), force_terminal=on_a_terminal)):
        assert is_heard() is not on_a_terminal
    assert not is_heard()


def test_no_control_character_of_a_name_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31mred\x1b]0;title\x07 \x08\x9b1m \u202eback"
    terminal = Terminal()
    terminal.step(name)
    terminal.show(Text(name))
    table = Table("name")
    table.add_row(Text(name))
    terminal.show(table)
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x08\x9b\u202e")
    assert shown.count("␛[31mred") == 3


def test_no_control_character_of_an_error_reaches_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise InputError("a\x1b[2Jb.json", "is not there")

    monkeypatch.setattr(verbs.commands, "main", fail)
    with pytest.raises(SystemExit):
        verbs.main([])
    assert "a␛[2Jb.json" in capsys.readouterr().err


def test_a_log_gets_about_ten_lines_of_training() -> None:
    page = io.StringIO()
    terminal = Terminal(Console(file=page, width=80))
    for step in range(1, 201):
        terminal.training(StepMetrics(step, {"train/loss": 1.0}), 200)
    assert page.getvalue().count("train/loss") == 10


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_what_a_distillation_minimises_is_shown_beside_the_loss(on_a_terminal: bool) -> None:
    page = io.StringIO()
    with Terminal(Console(file=page, width=120, force_terminal=on_a_terminal, highlight=False)) as terminal:
        terminal.training(StepMetrics(1, {"train/loss": 1.25, "train/kl": 0.5}), 1)
        terminal.training(StepMetrics(1, {"validation/nll": 2.5, "validation/kl": 0.75}), 1)
    assert "train/kl 0.5000, train/loss 1.2500" in page.getvalue()
    assert "step 1: validation/kl 0.7500, validation/nll 2.5000" in page.getvalue()


def test_a_terminal_gets_one_moving_line() -> None:
    page = io.StringIO()
    with Terminal(Console(file=page, width=80, force_terminal=True)) as terminal:
        for step in range(1, 4):
            terminal.training(StepMetrics(step, {"train/loss": 1.25}), 3)
    assert "3/3" in page.getvalue()
    assert "1.2500" in page.getvalue()
