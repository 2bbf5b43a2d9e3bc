"""Seconds of a trial or a study, over its attempts and processes."""

from __future__ import annotations

import optuna
import pytest

from tunery.search.study import stopwatch
from tunery.search.study.stopwatch import SEARCHED, SECONDS, Stopwatch


def test_seconds_are_noted_while_a_trial_runs_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    trial = optuna.create_study().ask()
    trial.set_user_attr(SECONDS, 7.0)
    watch = Stopwatch(trial, SECONDS)
    for second in range(1, 26):
        now[0] = 100.0 + second
        watch.note_now_and_then()
    assert trial.user_attrs[SECONDS] == 7.0 + 22.0  # at 11 and 22: a kill now forgets three seconds
    watch.note()
    assert trial.user_attrs[SECONDS] == 7.0 + 25.0


def test_of_two_processes_that_share_a_study_the_longer_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    study = optuna.create_study()
    first = Stopwatch(study, SEARCHED)
    now[0] = 130.0
    second = Stopwatch(study, SEARCHED)
    now[0] = 140.0
    first.note()
    second.note()
    assert study.user_attrs[SEARCHED] == 40.0
