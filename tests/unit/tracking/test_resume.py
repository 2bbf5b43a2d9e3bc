from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tunery.errors import ConfigError, DataError, Interrupted, RefError
from tunery.tracking.run import open_run
from tunery.tracking.store import Store

CONFIG = {"training": {"epochs": 3}}


@pytest.fixture
def killed(store: Store) -> str:
    """Run id of a training that a signal stopped."""
    tracker = open_run(store, "train", "quickstart")
    with contextlib.suppress(Interrupted), tracker:
        tracker.log_config(CONFIG, "abc")
        tracker.log_inputs({"base": "c0ffee", "data.train": "0123"})
        raise Interrupted("SIGTERM", 3, True)
    return tracker.run_id


def state(store: Store, run_id: str) -> tuple[Any, ...]:
    run = store.client.get_run(run_id)
    return run.info.status, run.info.end_time, run.data.tags, run.data.params


@pytest.mark.parametrize(
    ("kind", "project", "told"),
    [
        ("train", "other", r"tag tunery.project is 'quickstart', but must be other"),
        ("evaluation", "quickstart", r"tag tunery.kind is 'train', but must be evaluation"),
    ],
)
def test_a_run_of_another_project_or_kind_is_refused_untouched(
    store: Store, killed: str, kind: str, project: str, told: str
) -> None:
    before = state(store, killed)
    with pytest.raises(RefError, match=told), open_run(store, kind, project, killed):
        pass
    assert state(store, killed) == before


def test_a_resume_with_other_settings_leaves_the_run_as_it_was(store: Store, killed: str) -> None:
    before = state(store, killed)
    with pytest.raises(ConfigError), open_run(store, "train", "quickstart", killed) as tracker:
        tracker.log_config({"training": {"epochs": 4}}, "abd")
    assert state(store, killed) == before


def test_a_resume_over_other_inputs_is_refused_and_leaves_the_run_as_it_was(store: Store, killed: str) -> None:
    before = state(store, killed)
    with (  # noqa: PT012 (one run)
        pytest.raises(ConfigError, match=r"input.data.train is '4567', but must be 0123, as when the run began"),
        open_run(store, "train", "quickstart", killed) as tracker,
    ):
        tracker.log_config(CONFIG, "abc")
        tracker.log_inputs({"base": "c0ffee", "data.train": "4567"})
    assert state(store, killed) == before


def test_a_refused_resume_leaves_a_dead_run_running_as_it_was_found(store: Store, killed: str) -> None:
    store.client.update_run(killed, status="RUNNING")
    with pytest.raises(ConfigError), open_run(store, "train", "quickstart", killed) as tracker:
        tracker.log_config({"training": {"epochs": 4}}, "abd")
    assert state(store, killed)[0] == "RUNNING"


def test_once_a_resume_is_accepted_its_end_is_told(store: Store, killed: str) -> None:
    with pytest.raises(DataError), open_run(store, "train", "quickstart", killed) as tracker:  # noqa: PT012 (one run)
        tracker.accept_resume()
        raise DataError("rows.jsonl", "gone")
    status, _, tags, _ = state(store, killed)
    assert (status, tags["tunery.failure"], tags["tunery.error"]) == ("FAILED", "error", "rows.jsonl: gone")
