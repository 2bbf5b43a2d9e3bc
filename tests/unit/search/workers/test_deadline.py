"""A trial's seconds over its attempts, and an alarm that cannot be swallowed."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import optuna
import pytest

from tunery.errors import Interrupted, TimedOut
from tunery.search.study.rows import SECONDS
from tunery.search.workers import deadline as clock
from tunery.search.workers.deadline import Deadline, deadline


def wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_SECONDS_BETWEEN_RINGS", 0.1)


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
            wait(0.5)  # five rings long
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


def test_seconds_are_noted_while_a_trial_runs_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    trial = optuna.create_study().ask()
    trial.set_user_attr(SECONDS, 7.0)
    observer = Deadline(trial)
    for second in range(1, 26):
        now[0] = 100.0 + second
        observer.note_now_and_then()
    assert trial.user_attrs[SECONDS] == 7.0 + 22.0  # at 11 and 22: a kill now forgets three seconds
    observer.note()
    assert trial.user_attrs[SECONDS] == 7.0 + 25.0
