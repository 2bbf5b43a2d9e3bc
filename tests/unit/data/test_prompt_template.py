"""Prompt templates name columns and do nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.data.prompt_template import check_template, parse_template
from tunery.errors import DataError


def test_columns_are_filled_in() -> None:
    template = parse_template("Premise: {premise}\nIs it {Question text}?")
    assert template.columns == ("premise", "Question text")
    assert template.fill({"premise": "p", "Question text": "q"}) == "Premise: p\nIs it q?"


def test_doubled_braces_are_braces() -> None:
    assert parse_template("{{{a}}} {{}}").fill({"a": "x"}) == "{x} {}"


def test_braces_in_a_value_are_left_alone() -> None:
    assert parse_template("{a}{b}").fill({"a": "{b}", "b": "{{"}) == "{b}{{"


@pytest.mark.parametrize("text", ["{a", "a}", "{a}}", "{{a}", "{a{b}}"])
def test_a_lone_brace_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="a lone"):
        parse_template(text)


@pytest.mark.parametrize("inside", ["row.__class__", "row[0]", "row!r", "row:>9", "0", ""])
def test_what_format_would_evaluate_is_only_a_name(inside: str) -> None:
    assert parse_template(f"{{{inside}}}").columns == (inside,)


@given(st.text())
def test_a_text_with_its_braces_doubled_comes_back(text: str) -> None:
    assert parse_template(text.replace("{", "{{").replace("}", "}}")).fill({}) == text


@pytest.mark.parametrize("text", ["Say it.", "", " ", "{{review}}"])
def test_a_template_that_names_no_column_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"no column in .* the same prompt\. Name one in braces"):
        check_template(text)
    check_template(f"{text}{{review}}")
