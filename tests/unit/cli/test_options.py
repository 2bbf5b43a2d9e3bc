"""Config keys on the command line."""

from __future__ import annotations

import click
import pytest

from tunery.cli.options import split_overrides

DECLARED = {"--project", "--resume"}


@pytest.mark.parametrize(
    ("words", "overrides", "rest"),
    [
        (["--adapter.rank", "32"], [("adapter.rank", "32")], []),
        (["--adapter.rank=32"], [("adapter.rank", "32")], []),
        (["--a.b", "c=d", "--project", "p"], [("a.b", "c=d")], ["--project", "p"]),
        (["--project=p", "ref"], [], ["--project=p", "ref"]),
        (["--a.b", "1", "ref", "--a.b", "2"], [("a.b", "1"), ("a.b", "2")], ["ref"]),
        (["--a.b", "-0.01"], [("a.b", "-0.01")], []),
        (["--a.b="], [("a.b", "")], []),
        (["--", "--a.b"], [], ["--", "--a.b"]),
    ],
)
def test_undeclared_options_become_overrides(
    words: list[str], overrides: list[tuple[str, str]], rest: list[str]
) -> None:
    assert split_overrides(words, DECLARED) == (overrides, rest)


@pytest.mark.parametrize("words", [["--a.b"], ["--a.b", "--project", "p"]])
def test_an_override_without_a_value_is_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError, match=r"--a\.b needs a value"):
        split_overrides(words, DECLARED)
