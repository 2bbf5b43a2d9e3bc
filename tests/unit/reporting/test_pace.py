"""Lines about long work: one every half minute, with the time left."""

from __future__ import annotations

from itertools import count

from tunery.reporting.pace import Pace, is_heard, listening


def lines(seconds_each: float, weight: float = 1.0) -> list[str]:
    ticks = count(0.0, seconds_each)
    said: list[str] = []
    with listening(said.append):
        pace = Pace("scoring world_facts", 10, "items", weight, lambda: next(ticks))
        for _ in range(round(10 / weight)):
            pace.advance()
    return said


def test_a_line_every_half_minute_says_what_is_left() -> None:
    assert lines(10.0) == [
        "scoring world_facts: 3 of 10 items, about 1 min 10 s left",
        "scoring world_facts: 6 of 10 items, about 40.0 s left",
        "scoring world_facts: 9 of 10 items, about 10.0 s left",
    ]


def test_an_item_of_several_requests_counts_once() -> None:
    assert lines(10.0, weight=0.5)[1] == "scoring world_facts: 3 of 10 items, about 2 min 20 s left"


def test_short_work_says_nothing() -> None:
    assert lines(2.9) == []


def test_nobody_listens_by_default_or_afterwards() -> None:
    assert not is_heard()
    lines(10.0)
    assert not is_heard()
