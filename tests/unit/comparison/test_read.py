"""Runs of a store as entries of a comparison."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.compared import TUNED, logged, result

from tunery.comparison.entries import RunEntry, Votes
from tunery.comparison.read import read, votes_of, with_names
from tunery.comparison.selection import Selection, selected
from tunery.evaluation.samples import items_digest
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.store import Store


def of_two(search: Any, *args: Any, **options: Any) -> Any:
    """A search whose pages hold two."""
    return search(*args, **{**options, "max_results": 2})


def test_a_run_is_read_with_its_score_base_conditions_and_costs(store: Store) -> None:
    run_id = logged(store, seed=3)
    [entry] = read(store, Selection())[0]
    assert (entry.run_id, entry.kind, entry.project, entry.base, entry.method) == (
        run_id,
        "train",
        "small",
        "acme/base",
        "lora",
    )
    assert (entry.seed, entry.trained_on, entry.base_revision, entry.train_rows) == (3, "facts.jsonl", "c0ffee", 90)
    assert entry.costs == {"train_seconds": 7.0}
    score = entry.tasks["quiz"]
    assert (score.metric, score.value, score.base, score.items, score.counts) == ("acc", 0.75, 0.25, 4, True)
    assert score.conditions == {
        "version": "1.0", "settings": "abc", "prompt": "p", "few_shot": "0", "limit": "all", "chat_template": "true",
        "split": "all", "items": items_digest(result(TUNED).samples["item_id"]),
    }  # fmt: skip


def test_counts_and_sizes_are_read_from_params_and_from_the_metrics_of_earlier_runs(store: Store) -> None:
    earlier, now = logged(store, seed=0), logged(store, seed=1)
    for name, value in {"trainable_parameters": 512, "model_bytes": 4096}.items():
        store.client.log_metric(earlier, name, value)
        store.client.log_param(now, name, value)
    sizes = {"trainable_parameters": 512.0, "model_bytes": 4096.0}
    assert [entry.costs for entry in read(store, Selection())[0]] == [{"train_seconds": 7.0, **sizes}] * 2


def test_runs_that_differ_in_their_seed_alone_are_one_configuration(store: Store) -> None:
    logged(store, seed=0)
    logged(store, seed=1)
    logged(store, rank=16)
    names = [entry.configuration for entry in read(store, Selection())[0]]
    assert len(names) == 3
    assert len(set(names)) == 2


def test_a_model_that_was_trained_on_names_its_parents_data_first(store: Store) -> None:
    logged(store, tags={"tunery.lineage": "facts.jsonl → writing.jsonl", "tunery.datasets": "writing.jsonl"})
    [entry], _ = read(store, Selection())
    assert entry.trained_on == "facts.jsonl → writing.jsonl"


def test_rows_that_a_seed_draws_make_no_configuration_of_their_own(store: Store) -> None:
    logged(store, seed=0, drawn="d1")
    logged(store, seed=1, drawn="d2")
    assert len({entry.configuration for entry in read(store, Selection())[0]}) == 1


def test_of_one_configuration_and_seed_the_latest_run_is_taken(store: Store) -> None:
    logged(store, values=(0.0, 0.0, 0.0, 0.0))
    later = logged(store)
    [entry] = read(store, Selection())[0]
    assert entry.run_id == later


def test_runs_that_are_named_stand_for_themselves(store: Store) -> None:
    both = {logged(store), logged(store)}
    assert {entry.run_id for entry in read(store, selected(sorted(both)))[0]} == both


def test_an_evaluation_adds_its_tasks_to_the_run_that_trained_the_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = logged(store)
    logged(store, kind="evaluation", task="riddles", tags={EVALUATED_MODEL: "m-1"})
    from tunery.comparison import read as module

    whole = module._entry

    def with_model(run: Any, named: bool, shared: Any) -> Any:
        entry = whole(run, named, shared)
        return replace(entry, models=("m-1",)) if run.info.run_id == trained else entry

    monkeypatch.setattr(module, "_entry", with_model)
    [entry] = read(store, Selection())[0]
    assert (entry.run_id, list(entry.tasks)) == (trained, ["quiz", "riddles"])


def test_an_infinity_that_the_store_held_as_the_largest_float_is_one_again(store: Store) -> None:
    run_id = logged(store)
    store.client.log_metric(run_id, "lm_eval/quiz/acc", -math.inf)
    store.client.log_metric(run_id, "train_seconds", math.inf)
    [entry] = read(store, Selection())[0]
    assert entry.tasks["quiz"].value == -math.inf
    assert entry.costs["train_seconds"] == math.inf


def test_votes_of_all_sessions_are_counted(store: Store) -> None:
    run_id = logged(store)
    for wins, losses in ((3, 1), (2, 0)):
        votes = store.client.create_run("0", tags={"tunery.kind": "votes", "tunery.voted_run": run_id})
        store.client.log_metric(votes.info.run_id, "votes/wins", wins)
        store.client.log_metric(votes.info.run_id, "votes/losses", losses)
    [entry] = read(store, Selection())[0]
    assert entry.votes == Votes(wins=5, ties=0, losses=1)


def test_votes_are_counted_page_by_page_in_every_experiment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = logged(store)
    for number in range(3):
        place = store.client.create_experiment(f"votes {number}")
        votes = store.client.create_run(place, tags={"tunery.kind": "votes", "tunery.voted_run": run_id})
        store.client.log_metric(votes.info.run_id, "votes/wins", 1)
    for name in ("search_runs", "search_experiments"):
        whole = getattr(store.client, name)
        monkeypatch.setattr(store.client, name, partial(of_two, whole))
    [entry] = read(store, Selection())[0]
    assert entry.votes == Votes(wins=3, ties=0, losses=0)


def test_a_row_has_its_own_votes_and_else_those_of_all_of_its_models() -> None:
    votes = {"run": Votes(5, 0, 0), "m2": Votes(5, 0, 0), "m1": Votes(10, 1, 2)}
    own = replace(made("run"), models=("m2", "m1"))
    assert votes_of(own, votes) == Votes(5, 0, 0)
    unvoted = replace(made("unvoted"), models=("m2", "m1", "m2"))
    assert votes_of(unvoted, votes) == Votes(15, 1, 2)
    assert votes_of(made("nothing"), votes) is None


def made(name: str, method: str = "lora", **settings: str) -> RunEntry:
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    return RunEntry(name, name, "train", "small", "acme/base", method, "facts.jsonl", "c", 0, {}, settings=keys)


def names(*entries: RunEntry) -> list[str]:
    return [entry.name for entry in with_names(entries)]


def test_a_name_that_mlflow_invented_gives_way_to_the_settings_that_differ() -> None:
    found = names(
        made("bold-bird-123", adapter__rank="8", training__learning_rate="0.002", base__dtype="float32"),
        made("calm-fish-7", adapter__rank="16", training__learning_rate="0.002", base__dtype="float32"),
    )
    assert found == ["rank=8", "rank=16"]


def test_a_name_that_somebody_gave_stays() -> None:
    assert names(made("my best run", adapter__rank="8"), made("calm-fish-7", adapter__rank="16"))[0] == "my best run"


def test_runs_of_different_kinds_are_not_told_apart_by_settings() -> None:
    found = names(made("bold-bird-1", adapter__rank="8"), made("calm-fish-7", method="dora", adapter__rank="16"))
    assert found == ["lora on facts.jsonl", "dora on facts.jsonl"]


def test_method_and_data_are_told_where_they_differ() -> None:
    entries = [made("bold-bird-1", adapter__rank="8"), made("calm-fish-7", adapter__rank="16")]
    other = made("my best run", method="dora")
    assert names(*entries, other) == ["lora rank=8", "lora rank=16", "my best run"]
    elsewhere = replace(other, trained_on="rows.csv")
    assert names(*entries, elsewhere)[0] == "lora on facts.jsonl rank=8"


def test_of_many_differences_the_first_few_are_named() -> None:
    keys = [f"training__key{number}" for number in range(9)]
    [first, _] = names(
        made("bold-bird-1", **dict.fromkeys(keys, "1")),
        made("calm-fish-7", **dict.fromkeys(keys, "2")),
    )
    assert first == "key0=1 key1=1 key2=1 key3=1"
