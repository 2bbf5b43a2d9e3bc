"""Options of `tunery tune` that are refused before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tunery.cli.tune import tune


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--timeout", "nan"], "'--timeout': nan is not a finite number in the range x>0"),
        (["--timeout", "inf"], "'--timeout': inf is not a finite number in the range x>0"),
        (["--timeout", "0"], "'--timeout': 0.0 is not in the range x>0"),
        (["--gpus-per-worker", "nan"], "'--gpus-per-worker': nan is not a finite number in the range 0<=x<=1"),
        (["--study", ""], "'--study': it is empty, but must be a name"),
        (["--study", " "], "'--study': it is empty, but must be a name"),
    ],
)
def test_a_value_that_means_nothing_is_refused(words: list[str], expected: str) -> None:
    outcome = CliRunner().invoke(tune, words)
    assert outcome.exit_code == 2
    assert expected in outcome.output
