"""Texts in the form that MLflow's pages show."""

from __future__ import annotations

from tunery.tracking.entities import description


def test_cells_of_a_description_are_apart_and_the_rule_stays_one() -> None:
    table = "text a | b\n\n| base | tuned |\n| ---: | :--- |\n| 0.26 | `x \\| y` |"
    shown = "text a | b\n\n| base&emsp;| tuned |\n| ---: | :--- |\n| 0.26&emsp;| `x \\| y` |"
    assert description(table, rest="report.md", longest=100) == shown


def test_a_long_description_is_cut_where_it_says_so() -> None:
    text = description("x" * 200, rest="report.md", longest=100)
    assert (len(text), text[-29:]) == (100, "\n\n*The rest is in report.md.*")
