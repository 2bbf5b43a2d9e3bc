"""The table of a model's champions."""

from __future__ import annotations

from tests.unit.promotion.test_report import printed

from tunery.promotion.history import Event, _next, history_table


def test_the_history_says_who_was_champion_until_when() -> None:
    events = [
        Event(
            "small/1",
            "accepted",
            "2026-01-02T03:04:05+00:00",
            "2026-02-02T03:04:05+00:00",
            "ann",
            "first",
            0.61,
            None,
            "",
            "+0.2",
        ),
        Event("small/2", "forced", "2026-02-02T03:04:05+00:00", None, "bob", "terms", 0.7, 0.61, "+0.1", "+0.3"),
    ]
    shown = printed(history_table("small", events))
    assert "2026-02-02 03:04" in shown
    assert "times in UTC" in shown
    assert "0.7000 (champion 0.6100)" in shown
    assert "now" in shown


def test_the_end_of_a_history_names_the_next_verbs() -> None:
    assert _next("small", None) == "tunery promote models:/small/VERSION"
    assert "models:/small@champion" in _next("small", 3)
    assert _next("small", 3).endswith("tunery rollback small")


def test_a_model_without_promotions_says_so() -> None:
    assert "small: no version was promoted yet." in printed(history_table("small", []))
