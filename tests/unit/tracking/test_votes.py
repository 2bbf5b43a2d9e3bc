"""Votes reach MLflow at once, in one run a session."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunery.errors import TrackingError
from tunery.tracking.registry import ModelRef
from tunery.tracking.store import Store
from tunery.tracking.votes import TABLE, Choice, Vote, VoteLog

REF = ModelRef("models:/quickstart@champion", "m-" + "0" * 32, "a" * 32, "quickstart", 3)


def vote(choice: Choice, prompt: str = "Who?") -> Vote:
    settings = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 32, "seed": 0}
    return Vote(prompt, "him", "her", choice, 1, "[]", "left", settings)


def logged(store: Store, votes: VoteLog) -> tuple[Any, Any]:
    assert votes.run_id is not None
    run = store.client.get_run(votes.run_id)
    return run, store.client.load_table(run.info.experiment_id, TABLE, run_ids=[votes.run_id])


def test_without_a_vote_there_is_no_run(store: Store) -> None:
    VoteLog(store, REF, "quickstart")
    assert store.client.get_experiment_by_name("quickstart-decisions") is None


def test_votes_are_counted_and_kept_with_what_they_are_on(store: Store) -> None:
    votes = VoteLog(store, REF, "quickstart")
    for choice in ("tuned", "tuned", "tie"):
        votes.add(vote(choice))
    assert votes.add(vote("base")) == {"votes/wins": 2, "votes/ties": 1, "votes/losses": 1}
    run, table = logged(store, votes)
    assert run.data.metrics == {"votes/wins": 2.0, "votes/ties": 1.0, "votes/losses": 1.0}
    assert {key: value for key, value in run.data.tags.items() if key.startswith("tunery.")} == {
        "tunery.kind": "votes", "tunery.project": "quickstart", "tunery.voted_run": "a" * 32,
        "tunery.voted_version": "quickstart/3", "tunery.voted_model": "m-" + "0" * 32,
    }  # fmt: skip
    assert run.info.status == "FINISHED"
    assert store.client.get_experiment(run.info.experiment_id).name == "quickstart-decisions"
    assert list(table["choice"]) == ["tuned", "tuned", "tie", "base"]
    assert {"prompt", "base", "tuned", "temperature", "top_p", "max_tokens", "seed", "conversation"} <= set(table)


def test_votes_at_the_same_time_are_all_kept(store: Store) -> None:
    votes = VoteLog(store, REF, "quickstart")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(votes.add, [vote("tuned")] * 8))
    run, table = logged(store, votes)
    assert (run.data.metrics["votes/wins"], len(table)) == (8.0, 8)
    assert len(store.client.search_runs([run.info.experiment_id])) == 1


def test_answers_stay_as_they_were_cast_whatever_is_cast_later(store: Store, tmp_path: Path) -> None:
    votes = VoteLog(store, REF, "quickstart")
    cast = [("007", "008"), ("3.1", "3.10"), ("3", "3.00"), ("2020-01-01", "NaN"), ("", "true")]
    for base, tuned in cast:
        votes.add(replace(vote("tie"), base=base, tuned=tuned))
        assert votes.run_id is not None
        kept = json.loads(Path(store.client.download_artifacts(votes.run_id, TABLE, str(tmp_path))).read_text("utf-8"))
        columns = [kept["columns"].index(side) for side in ("base", "tuned")]
        seen = [tuple(row[column] for column in columns) for row in kept["data"]]
        assert seen == cast[: len(seen)]
    assert len(seen) == len(cast)


def test_secrets_in_a_question_are_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrst")
    votes = VoteLog(store, REF, "quickstart")
    votes.add(vote("tie", "My token is hf_abcdefghijklmnopqrst"))
    _, table = logged(store, votes)
    assert list(table["prompt"]) == ["My token is [redacted]"]


def test_a_store_that_refuses_is_told_and_the_vote_not_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    votes = VoteLog(store, REF, "quickstart")

    def refuse(*_: Any) -> None:
        raise MlflowException("away")

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_dict", refuse)
        with pytest.raises(TrackingError, match="away"):
            votes.add(vote("tuned"))
    assert votes.add(vote("tie")) == {"votes/wins": 0, "votes/ties": 1, "votes/losses": 0}


def test_an_artifact_store_that_cannot_be_written_is_told_and_leaves_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = VoteLog(store, REF, "quickstart")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_dict", refuse)
        with pytest.raises(TrackingError, match=r"Permission denied.*Check that it can be written"):
            votes.add(vote("tuned"))
    assert votes.run_id is None
    assert store.client.search_runs([store.experiment_id("quickstart-decisions")]) == []


def test_under_mlflow_run_its_own_run_takes_the_votes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.client.create_run(store.experiment_id())
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    votes = VoteLog(store, REF, "quickstart")
    votes.add(vote("tuned"))
    run, _ = logged(store, votes)
    assert votes.run_id == made.info.run_id
    assert run.data.tags["tunery.kind"] == "votes"
    assert run.info.status == "RUNNING"  # MLflow ends it with the process
