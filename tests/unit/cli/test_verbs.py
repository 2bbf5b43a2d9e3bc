"""How an error leaves a verb."""

from __future__ import annotations

import re

import pytest

from tunery.cli import verbs
from tunery.errors import Interrupted


def test_what_was_noted_on_an_error_is_told_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        error = Interrupted("SIGINT", 34, resumable=True)
        error.add_note("To resume it: the same command with --resume abc")
        raise error

    monkeypatch.setattr(verbs.commands, "main", stopped)
    with pytest.raises(SystemExit) as ended:
        verbs.main(["train"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: stopped by SIGINT at optimizer step 34: a checkpoint was written",
        "To resume it: the same command with --resume abc",
    ]


@pytest.mark.parametrize(
    ("raised", "told"),
    [(KeyboardInterrupt(), "interrupted"), (EOFError("Ran out of input"), "a file ended before .*Ran out of input")],
)
def test_an_empty_file_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, told: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(verbs.train, "callback", stopped)
    with pytest.raises(SystemExit):
        verbs.main(["train"])
    assert re.search(f"error: {told}", capsys.readouterr().err)
