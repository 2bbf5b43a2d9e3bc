"""Two aliases that move together or not at all: crashes at every point, and two that want to move at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tunery.errors import Overtaken, RefError, TrackingError
from tunery.tracking import lock
from tunery.tracking.aliases import (
    APPLIED,
    LONGEST_TEXT,
    PENDING,
    Aliases,
    AliasMove,
    as_tag,
    check_model,
    current_aliases,
    finish_pending,
    move_aliases,
    shortened,
)
from tunery.tracking.process import host
from tunery.tracking.store import _PATIENCE, Store, connect

NAME = "small"
WRITES = (
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "set_model_version_tag",
    "delete_model_version_tag",
    "update_model_version",
    "set_tag",
)


class Crash(BaseException):
    """The process is gone."""


class Dying:
    """A client of a process that dies at its nth write: nothing that it sends afterwards arrives."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client, self.left = client, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._counted(found) if name in WRITES else found

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def send(*words: Any, **named: Any) -> Any:
            if self.left == 0:
                raise Crash
            self.left -= 1
            return write(*words, **named)

        return send


@pytest.fixture
def model(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three versions; the second is champion, the first previous. A flag left behind is dead after 50 ms."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.05)
    store.client.create_registered_model(NAME)
    for _ in range(3):
        store.client.create_model_version(NAME, "s3://nowhere")
    store.client.set_registered_model_alias(NAME, "champion", "2")
    store.client.set_registered_model_alias(NAME, "previous", "1")
    return store


def wanted(store: Store, champion: int = 3) -> AliasMove:
    run = store.client.create_run(store.experiment_id(), tags={"mlflow.note.content": f"why {champion}"})
    before = current_aliases(store, NAME)
    after = Aliases(champion, before.champion)
    return AliasMove(before, after, run.info.run_id, "2026-01-02T03:04:05+00:00", {"tunery.promotion": "accepted"})


def aliases_of(store: Store) -> dict[str, int]:
    # SQLite tells numbers, a server tells texts.
    return {alias: int(version) for alias, version in store.client.get_registered_model(NAME).aliases.items()}


def tags_of(store: Store) -> dict[str, str]:
    return dict(store.client.get_registered_model(NAME).tags)


def test_both_aliases_move_and_the_version_keeps_its_evidence(model: Store) -> None:
    made = wanted(model)
    move_aliases(model, NAME, made)
    version = model.client.get_model_version(NAME, "3")
    assert aliases_of(model) == {"champion": 3, "previous": 2}
    assert (version.tags, version.description) == ({"tunery.promotion": "accepted"}, "why 3")
    assert model.client.get_run(made.run_id).data.tags[APPLIED] == made.at
    assert tags_of(model) == {}


def test_below_the_decision_stands_the_report_of_the_run_that_trained_the_version(model: Store) -> None:
    note = "[trial 3](#/runs/a): a trial of this study.\n\n# small\n\n**Score 0.9.**\n\nMore."
    trained = model.client.create_run(model.experiment_id(), tags={"mlflow.note.content": note})
    made = model.client.create_model_version(NAME, "s3://nowhere", run_id=trained.info.run_id)
    move_aliases(model, NAME, wanted(model, champion=int(made.version)))
    told = model.client.get_model_version(NAME, made.version).description
    assert told == f"why {made.version}\n\n**Score 0.9.**\n\nMore."


def test_the_evidence_of_an_earlier_promotion_is_replaced_not_mixed(model: Store) -> None:
    for key in ("tunery.promotion.forced", "tunery.project"):
        model.client.set_model_version_tag(NAME, "3", key, "old")
    move_aliases(model, NAME, wanted(model))
    tags = model.client.get_model_version(NAME, "3").tags
    assert tags == {"tunery.promotion": "accepted", "tunery.project": "old"}


def test_an_alias_that_a_move_leaves_to_nobody_is_taken_away(model: Store) -> None:
    model.client.delete_registered_model_alias(NAME, "champion")  # by hand, in MLflow's pages
    before = current_aliases(model, NAME)
    move_aliases(model, NAME, replace(wanted(model), before=before, after=Aliases(1, before.champion), tags={}))
    assert aliases_of(model) == {"champion": 1}
    assert current_aliases(model, NAME) == Aliases(1, None)


def test_the_first_champion_has_none_before_it(store: Store) -> None:
    store.client.create_registered_model(NAME)
    store.client.create_model_version(NAME, "s3://nowhere")
    move_aliases(store, NAME, wanted(store, champion=1))
    assert aliases_of(store) == {"champion": 1}


def test_a_crash_at_any_write_leaves_both_aliases_moved_or_none(model: Store) -> None:
    outcomes = set()
    for writes in range(20):
        client = model.client
        for alias, version in (("champion", "2"), ("previous", "1")):
            client.set_registered_model_alias(NAME, alias, version)
        made = wanted(model)
        dying = Dying(client, writes)
        try:
            move_aliases(replace(model, client=dying), NAME, made)  # type: ignore[arg-type]
            died = False
        except Crash:
            died = True
        told = current_aliases(model, NAME)
        finished = finish_pending(model, NAME)
        now = aliases_of(model)
        assert now in ({"champion": 2, "previous": 1}, {"champion": 3, "previous": 2}), writes
        assert told == Aliases(now["champion"], now["previous"]), "what is told is what the next one finds"
        if now["champion"] == 3:
            assert model.client.get_run(made.run_id).data.tags[APPLIED] == made.at
            assert model.client.get_model_version(NAME, "3").description == "why 3"
        assert PENDING not in tags_of(model)
        outcomes.add((died, finished is not None, now["champion"]))
        if not died:
            break
    # Died before it was written down, died after, and came through.
    assert {(True, False, 2), (True, True, 3), (False, False, 3)} <= outcomes


def test_a_move_that_was_left_is_finished_before_the_next_is_judged(model: Store) -> None:
    made = wanted(model)
    with pytest.raises(Crash):
        move_aliases(replace(model, client=Dying(model.client, 2)), NAME, made)  # type: ignore[arg-type]
    assert aliases_of(model) == {"champion": 2, "previous": 1}
    with pytest.raises(Overtaken, match="champion 3 and previous 2 by now, not champion 2 and previous 1"):
        move_aliases(model, NAME, replace(made, after=Aliases(1, 2)))
    assert aliases_of(model) == {"champion": 3, "previous": 2}
    assert model.client.get_run(made.run_id).info.status == "FINISHED"


def test_an_alias_set_by_hand_after_a_crash_is_the_later_word(model: Store) -> None:
    with pytest.raises(Crash):
        move_aliases(replace(model, client=Dying(model.client, 2)), NAME, wanted(model))  # type: ignore[arg-type]
    model.client.set_registered_model_alias(NAME, "champion", "1")
    assert current_aliases(model, NAME) == Aliases(1, 1)
    assert finish_pending(model, NAME) is None
    assert (aliases_of(model), tags_of(model).get(PENDING)) == ({"champion": 1, "previous": 1}, None)


@pytest.mark.parametrize("writes", [2, 3], ids=["nothing moved yet", "previous moved"])
def test_a_move_to_a_version_deleted_after_a_crash_is_taken_back(model: Store, writes: int) -> None:
    with pytest.raises(Crash):
        move_aliases(replace(model, client=Dying(model.client, writes)), NAME, wanted(model))  # type: ignore[arg-type]
    model.client.delete_model_version(NAME, "3")
    assert current_aliases(model, NAME) == Aliases(2, 1)
    assert finish_pending(model, NAME) is None
    assert (aliases_of(model), tags_of(model).get(PENDING)) == ({"champion": 2, "previous": 1}, None)


def test_what_was_deleted_after_the_champion_moved_takes_nothing_back(model: Store) -> None:
    with pytest.raises(Crash):
        move_aliases(replace(model, client=Dying(model.client, 4)), NAME, wanted(model))  # type: ignore[arg-type]
    model.client.set_registered_model_alias(NAME, "previous", "1")
    model.client.delete_model_version(NAME, "2")
    assert finish_pending(model, NAME) is None
    assert aliases_of(model) == {"champion": 3, "previous": 1}


def test_a_version_deleted_while_it_was_judged_moves_nothing(model: Store) -> None:
    made = wanted(model)
    model.client.delete_model_version(NAME, "3")
    with pytest.raises(Overtaken, match="a version of champion 3 and previous 2 was deleted meanwhile"):
        move_aliases(model, NAME, made)
    assert (aliases_of(model), tags_of(model)) == ({"champion": 2, "previous": 1}, {})


def test_a_process_that_sleeps_through_its_turn_overwrites_nothing(model: Store, monkeypatch: Any) -> None:
    client, slept = model.client, []
    set_alias = client.set_registered_model_alias

    def set_and_sleep(*words: str) -> None:
        set_alias(*words)
        if not slept:
            slept.append(words)
            # The lease is over: another process goes in, finishes the move, and promotes version 1.
            finish_pending(model, NAME)
            move_aliases(model, NAME, wanted(model, 1))

    monkeypatch.setattr(client, "set_registered_model_alias", set_and_sleep)
    made = wanted(model)
    move_aliases(model, NAME, made)
    assert aliases_of(model) == {"champion": 1, "previous": 3}
    assert client.get_run(made.run_id).data.tags[APPLIED] == made.at


def test_a_process_that_sleeps_while_an_alias_is_set_by_hand_is_told(model: Store, monkeypatch: Any) -> None:
    set_alias = model.client.set_registered_model_alias

    def set_and_sleep(name: str, alias: str, version: str) -> None:
        set_alias(name, alias, version)
        set_alias(name, "champion", "1")

    monkeypatch.setattr(model.client, "set_registered_model_alias", set_and_sleep)
    with pytest.raises(Overtaken, match="set by somebody else while this process stood still"):
        move_aliases(model, NAME, wanted(model))
    assert aliases_of(model)["champion"] == 1


def test_the_lease_outlasts_a_request_with_all_its_retries() -> None:
    patience = {key: int(value) for key, value in _PATIENCE.items()}
    longest = patience["MLFLOW_HTTP_REQUEST_TIMEOUT"] * (patience["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] + 1)
    assert longest < lock.LEASE_SECONDS < lock._PATIENCE_SECONDS


def test_a_store_that_refuses_after_the_move_was_written_down_says_that_it_counts(
    model: Store, monkeypatch: Any
) -> None:
    def away(*_: object) -> None:
        raise MlflowException("away")

    with monkeypatch.context() as patch:
        patch.setattr(model.client, "update_model_version", away)
        with pytest.raises(TrackingError, match=r"away.* The move is written down and counts"):
            move_aliases(model, NAME, wanted(model))
    assert finish_pending(model, NAME) is not None
    assert (current_aliases(model, NAME), tags_of(model)) == (Aliases(3, 2), {})


@pytest.mark.parametrize("text", ["причина " * 125, '"' * 1000])
def test_a_move_is_cut_to_what_a_tag_holds(text: str) -> None:
    tags = {f"tunery.promotion.{number}": text for number in range(5)}
    cut = shortened(AliasMove(Aliases(2, 1), Aliases(3, 2), "r" * 32, "now", tags))
    assert len(as_tag(cut)) <= LONGEST_TEXT
    assert set(cut.tags) == set(tags)


def test_a_long_reason_in_another_script_is_kept_whole() -> None:
    made = AliasMove(Aliases(2, 1), Aliases(3, 2), "r" * 32, "now", {"tunery.promotion.forced": "причина " * 125})
    assert shortened(made) == made


def test_a_run_deleted_after_a_crash_does_not_hold_the_move_up(model: Store) -> None:
    made = wanted(model)
    with pytest.raises(Crash):
        move_aliases(replace(model, client=Dying(model.client, 2)), NAME, made)  # type: ignore[arg-type]
    model.client.delete_run(made.run_id)
    assert finish_pending(model, NAME) == made
    assert aliases_of(model) == {"champion": 3, "previous": 2}


def test_a_decision_made_on_another_champion_moves_nothing(model: Store) -> None:
    made = wanted(model)
    model.client.set_registered_model_alias(NAME, "champion", "1")
    with pytest.raises(Overtaken, match="Another promotion was faster"):
        move_aliases(model, NAME, made)
    assert (aliases_of(model), tags_of(model)) == ({"champion": 1, "previous": 1}, {})


def test_who_is_overtaken_is_told_of_both_aliases(model: Store) -> None:
    made = wanted(model)
    model.client.set_registered_model_alias(NAME, "previous", "3")
    with pytest.raises(Overtaken, match="champion 2 and previous 3 by now, not champion 2 and previous 1"):
        move_aliases(model, NAME, made)


def test_nobody_stands_anywhere_in_a_model_that_is_not_there(store: Store) -> None:
    assert current_aliases(store, "nobody") == Aliases()
    assert finish_pending(store, "nobody") is None
    store.client.create_registered_model("other")
    with pytest.raises(RefError, match=r"nobody: no registered model of this name\. There are: other"):
        check_model(store, "nobody")


# ---- the lock


def test_the_flag_of_a_process_that_is_dead_does_not_hold_others_up(model: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 3600.0)
    gone = json.dumps({"host": host(), "pid": 2**22 + 1})
    model.client.set_registered_model_tag(NAME, f"{lock.LOCK_TAG}gone", gone)
    with lock.model_lock(model, NAME):
        assert len(tags_of(model)) == 1
    assert tags_of(model) == {}


def test_the_flag_of_another_host_holds_others_up_until_its_lease_is_over(model: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.5)
    model.client.set_registered_model_tag(NAME, f"{lock.LOCK_TAG}far", json.dumps({"host": "elsewhere", "pid": 1}))
    began = time.monotonic()
    with lock.model_lock(model, NAME):
        assert time.monotonic() - began >= 0.5


def _compete(uri: str, version: int, ready: Any, told: Any) -> None:
    """One of two processes: decide on what is there, wait for the other, then move."""
    store = connect(uri, "quickstart")
    made = wanted(store, version)
    ready.wait()
    try:
        move_aliases(store, NAME, made)
        told.put((version, "won"))
    except Overtaken:
        told.put((version, "told"))


def test_of_two_processes_that_move_at_once_one_wins_and_the_other_is_told(model: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=_compete, args=(model.uri, version, ready, told)) for version in (1, 3)]
    for process in both:
        process.start()
    outcomes = dict(told.get(timeout=120) for _ in both)
    for process in both:
        process.join(30)
    assert sorted(outcomes.values()) == ["told", "won"]
    winner = next(version for version, outcome in outcomes.items() if outcome == "won")
    assert aliases_of(model) == {"champion": winner, "previous": 2}


def _hold(uri: str, entered: Any) -> None:
    store = connect(uri, "quickstart")
    with lock.model_lock(store, NAME):
        move_left = wanted(store)
        store.client.set_registered_model_tag(NAME, PENDING, as_tag(move_left))
        entered.set()
        os._exit(9)


def test_what_a_killed_process_left_is_finished_at_once(model: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 3600.0)
    spawn = multiprocessing.get_context("spawn")
    entered = spawn.Event()
    process = spawn.Process(target=_hold, args=(model.uri, entered))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert finish_pending(model, NAME) is not None
    assert aliases_of(model) == {"champion": 3, "previous": 2}
    assert tags_of(model) == {}


def test_the_place_of_the_flags_is_this_host_and_its_space_of_processes() -> None:
    assert host() == host()
    assert not Path("/proc/self/ns/pid").exists() or "pid:[" in host()
