"""The user who decided, and earlier promotions that were killed."""

from __future__ import annotations

import getpass
import os

import pytest
from tests.unit.tracking.test_abandoned import ended_process, left_running

from tunery.promotion.record import end_killed, user_name
from tunery.runs.observer import Observer
from tunery.tracking.process import this_process
from tunery.tracking.store import Store


def test_who_decided_is_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert user_name() == "ann"


@pytest.mark.parametrize("error", [KeyError, OSError, ImportError])
def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def nameless() -> str:
        raise error("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert user_name() == f"uid {os.getuid()}"


def test_a_promotion_ends_what_a_killed_one_left_running_and_leaves_a_living_one(store: Store) -> None:
    killed = left_running(store, ended_process(), kind="promotion")
    living = left_running(store, this_process(), kind="promotion")
    end_killed("quickstart", store, Observer())
    status = {run_id: store.client.get_run(run_id).info.status for run_id in (killed, living)}
    assert status == {killed: "KILLED", living: "RUNNING"}
