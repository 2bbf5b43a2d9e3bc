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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["builtin:tiny", "--speed", "--batch", "0"], "--batch is '0', but must be numbers of prompts above 0"),
        (["builtin:tiny", "--speed", "--batch", "1,many"], "--batch is '1,many', but must be"),
        (["builtin:tiny", "--speed", "--new-tokens", "0"], "--new-tokens.*0 is not in the range"),
        (["builtin:tiny", "--batch", "1"], "Add --speed"),
        (["builtin:tiny", "models:/a/1"], "one REF is scored at a time"),
        ([], "Missing argument 'REF"),
    ],
)
def test_a_measurement_that_cannot_be_done_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        verbs.main(["evaluate", *words])
    assert ended.value.code == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))
