"""How an error leaves a verb."""

from __future__ import annotations

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
