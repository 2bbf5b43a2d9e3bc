"""The alarm of a trial that takes too long: it cannot be swallowed."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest

from tunery.errors import Interrupted, TimedOut
from tunery.search import trials
from tunery.search.trials import deadline


def wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_SECONDS_BETWEEN_ALARMS", 0.1)


def test_an_alarm_that_was_swallowed_rings_again() -> None:
    passed = []

    def work() -> None:
        with suppress(Exception):
            wait(5.0)
        passed.append("swallowed")
        wait(5.0)
        passed.append("never taken")

    with pytest.raises(TimedOut), deadline(0.05):
        work()
    assert passed == ["swallowed"]


def test_what_cleans_up_after_an_alarm_is_not_interrupted_by_the_next() -> None:
    cleaned = []

    def work() -> None:
        try:
            wait(5.0)
        finally:
            wait(0.5)  # five alarms long
            cleaned.append(True)

    with pytest.raises(TimedOut), deadline(0.05):
        work()
    assert cleaned


def test_what_a_library_made_of_an_alarm_is_a_timeout_all_the_same() -> None:
    def library() -> None:
        try:
            wait(5.0)
        except TimedOut:
            raise RuntimeError("cannot generate") from None

    with pytest.raises(TimedOut), deadline(0.05):
        library()


def test_nothing_rings_after_the_work_and_other_errors_stay_what_they_are() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(Interrupted), deadline(0.3):
        raise Interrupted("SIGINT", 1, resumable=True)
    with pytest.raises(ZeroDivisionError), deadline(0.3):
        _ = 1 / 0
    wait(0.5)
    assert signal.getsignal(signal.SIGALRM) is before


def test_earlier_attempts_have_used_of_the_time() -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"search\.timeout_seconds: 60"), deadline(60.0, spent=59.9):
        wait(5.0)
    assert time.monotonic() - began < 3
    with pytest.raises(TimedOut), deadline(60.0, spent=61.0):
        pytest.fail("begun without time")
