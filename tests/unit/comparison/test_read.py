"""Runs of a store as entries of a comparison."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.compared import BASE, IDENTITY, TUNED, logged, result

from tunery.comparison.entries import Entry, RunEntries, Votes
from tunery.comparison.read import read
from tunery.comparison.samples import contenders, with_answers, with_curves
from tunery.comparison.selection import Selection, is_project, is_study
from tunery.errors import InputError, RefError
from tunery.evaluation.samples import items_digest
from tunery.records import TaskSettings
from tunery.tracking import base_scores
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.store import Store


def of_two(search: Any, *args: Any, **options: Any) -> Any:
    """A search whose pages hold two."""
    return search(*args, **{**options, "max_results": 2})


def entries(found: RunEntries) -> list[Entry]:
    return [reading.entry for reading in found.readings]


def test_a_run_is_read_with_its_score_base_conditions_and_costs(store: Store) -> None:
    run_id = logged(store, seed=3)
    [entry] = entries(read(store, Selection()))
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


def test_a_run_from_before_tasks_were_params_is_read_from_its_inputs_and_settings(store: Store) -> None:
    logged(store, older=True)
    [entry] = entries(read(store, Selection()))
    score = entry.tasks["quiz"]
    assert (score.metric, score.value, score.base, score.items) == ("acc", 0.75, 0.25, 4)
    assert score.conditions["items"] == items_digest(result(TUNED).samples["item_id"])
    assert (score.conditions["version"], score.conditions["limit"]) == ("1.0", "all")
    assert "few_shot" not in score.conditions, "the task's own number was asked, and nobody recorded it"


def test_runs_that_differ_in_their_seed_alone_are_one_configuration(store: Store) -> None:
    logged(store, seed=0)
    logged(store, seed=1)
    logged(store, rank=16)
    names = [entry.configuration for entry in entries(read(store, Selection()))]
    assert len(names) == 3
    assert len(set(names)) == 2


def test_of_one_configuration_and_seed_the_latest_run_is_taken(store: Store) -> None:
    logged(store, values=(0.0, 0.0, 0.0, 0.0))
    later = logged(store)
    [entry] = entries(read(store, Selection()))
    assert entry.run_id == later


def test_runs_that_are_named_stand_for_themselves(store: Store) -> None:
    both = {logged(store), logged(store)}
    assert {entry.run_id for entry in entries(read(store, Selection().with_refs(sorted(both))))} == both


def test_an_evaluation_adds_its_tasks_to_the_run_that_trained_the_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = logged(store)
    logged(store, kind="evaluation", task="riddles", tags={EVALUATED_MODEL: "m-1"})
    from tunery.comparison import read as module

    whole = module._reading

    def with_model(run: Any, named: bool, shared: Any) -> Any:
        reading = whole(run, named, shared)
        return replace(reading, models=("m-1",)) if run.info.run_id == trained else reading

    monkeypatch.setattr(module, "_reading", with_model)
    [entry] = entries(read(store, Selection()))
    assert (entry.run_id, list(entry.tasks)) == (trained, ["quiz", "riddles"])


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(projects=("one",)), {"one"}),
        (Selection(projects=("one", "two")), {"one", "two"}),
        (Selection(experiments=("two",)), {"two"}),
        (Selection(tags=(("tunery.project", "two"),)), {"two"}),
        (Selection(filter="params.`cfg.adapter.rank` = '16'"), {"two"}),
        (Selection(filter="metrics.score < 0.5"), {"three"}),
        (Selection(projects=("one",), filter="metrics.score > 0.99"), set()),
        (Selection(studies=("hunt",)), {"trial"}),
        (Selection(), {"one", "two", "three"}),
    ],
)
def test_what_is_selected(store: Store, selection: Selection, expected: set[str]) -> None:
    logged(store, name="one", project="one")
    logged(store, name="two", project="two", rank=16)
    logged(store, name="three", project="three", rank=32, values=(0.0, 0.0, 1.0, 0.0))
    logged(store, name="trial", project="one", kind="trial", tags={"tunery.study": "hunt"})
    if not expected:
        with pytest.raises(InputError, match="no finished run"):
            read(store, selection)
        return
    assert {entry.name for entry in entries(read(store, selection))} == expected


def test_no_match_says_what_exists(store: Store) -> None:
    logged(store, project="one")
    with pytest.raises(InputError, match=r"projects: one \(1\)"):
        read(store, Selection(projects=("none-such",)))


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        read(store, Selection())


def test_a_filter_that_does_not_parse_is_told_with_an_example(store: Store) -> None:
    with pytest.raises(InputError, match="is no filter of MLflow"):
        read(store, Selection(filter="scores > lots"))


def test_an_experiment_that_is_not_there_is_told_with_those_that_are(store: Store) -> None:
    logged(store, project="one")
    with pytest.raises(InputError, match=r"no experiment 'onee'.*Known are: .*one"):
        read(store, Selection(experiments=("onee",)))


@pytest.mark.parametrize("ref", ["nonsense", "0" * 31, "models:/", "a@b@c"])
def test_a_reference_that_is_none_is_refused(ref: str) -> None:
    with pytest.raises(RefError, match="reference"):
        Selection().with_refs([ref])


def test_a_run_that_is_not_there_is_told_with_the_latest(store: Store) -> None:
    run_id = logged(store)
    with pytest.raises(RefError, match=run_id):
        read(store, Selection().with_refs(["0" * 32]))


def test_answers_of_a_run_and_of_its_base_are_paired_by_item(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE))
    logged(store)
    [reading] = with_answers(store, read(store, Selection()).readings)
    samples, base = reading.entry.samples["quiz"], reading.entry.base_samples["quiz"]
    assert sorted(samples.columns) == ["acc", "item_id"], "of 20,000 items nothing else is held in memory"
    assert samples["acc"].tolist() == list(TUNED)
    assert base["acc"].tolist() == list(BASE)


def test_a_base_that_was_asked_otherwise_is_not_taken(store: Store) -> None:
    other = replace(result(BASE), settings=TaskSettings("quiz", "2.0", 0, None, True))
    base_scores.keep(store, "key", IDENTITY, other)
    logged(store)
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert reading.entry.base_samples == {}


def test_a_later_base_of_fewer_items_hides_no_base_of_the_same_items(store: Store) -> None:
    base_scores.keep(store, "all", IDENTITY, result(BASE))
    few = result(BASE[:2])
    base_scores.keep(store, "few", IDENTITY, replace(few, settings=replace(few.settings, limit=2)))
    run_id = logged(store, split="locked")
    store.client.log_metric(run_id, "locked/quiz/acc", 0.5)  # no base beside it: any base could be meant
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert reading.entry.base_samples["quiz"]["item_id"].tolist() == ["item1", "item3"]
    assert reading.entry.tasks["quiz"].base == 0.0


@pytest.mark.parametrize("older", [False, True])
def test_a_task_whose_name_no_param_takes_keeps_its_answers_and_its_base(store: Store, older: bool) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE, "group::quiz"))
    logged(store, task="group::quiz", older=older)
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert list(reading.entry.tasks) == ["group::quiz"]
    assert reading.entry.samples["group::quiz"]["acc"].tolist() == list(TUNED)
    assert reading.entry.base_samples["group::quiz"]["acc"].tolist() == list(BASE)


def test_an_infinity_that_the_store_held_as_the_largest_float_is_one_again(store: Store) -> None:
    run_id = logged(store)
    store.client.log_metric(run_id, "lm_eval/quiz/acc", -math.inf)
    store.client.log_metric(run_id, "train_seconds", math.inf)
    [entry] = entries(read(store, Selection()))
    assert entry.tasks["quiz"].value == -math.inf
    assert entry.costs["train_seconds"] == math.inf


def test_runs_with_infinite_scores_are_no_contenders_before_others(store: Store) -> None:
    good = logged(store, rank=8, values=BASE)
    for seed, value in enumerate((math.inf, math.inf, -math.inf)):
        run_id = logged(store, rank=16, seed=seed)
        store.client.log_metric(run_id, "lm_eval/quiz/acc", value)
    [best] = contenders(read(store, Selection()).readings, 1)
    assert best.entry.run_id == good


def test_a_run_without_samples_keeps_its_scores_and_says_so(store: Store) -> None:
    logged(store, samples=False)
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert reading.entry.tasks["quiz"].value == 0.75
    assert reading.entry.samples == {}
    assert "keeps no answers of quiz" in reading.entry.notes


def test_beside_a_run_that_was_chosen_on_dev_items_the_others_are_taken_on_locked_ones(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE))
    logged(store, name="plain", values=(0.0, 1.0, 1.0, 0.0))
    chosen = logged(store, name="chosen", rank=16, split="locked")
    store.client.log_metric(chosen, "locked/quiz/acc", 0.5)  # items 1 and 3 of TUNED
    full = {one.entry.name: one.entry for one in with_answers(store, read(store, Selection()).readings)}
    plain, other = full["plain"].tasks["quiz"], full["chosen"].tasks["quiz"]
    assert (plain.value, plain.items, plain.base) == (0.5, 2, 0.0)
    assert (other.value, other.items, other.base) == (0.5, 2, 0.0)
    assert plain.conditions == other.conditions
    assert full["plain"].samples["quiz"]["item_id"].tolist() == ["item1", "item3"]


def test_items_that_share_no_passage_with_others_stand_for_themselves(store: Store) -> None:
    mixed = result(TUNED)
    mixed = replace(mixed, samples=mixed.samples.assign(passage=["p", "p", None, None], task=["a", "a", "b", "b"]))
    run_id = logged(store, samples=False)
    path = Path(store.client.get_run(run_id).info.artifact_uri) / "samples" / "quiz.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    mixed.samples.to_parquet(path)
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert reading.entry.samples["quiz"]["passage"].tolist() == ["p", "p", "item2", "item3"]


def test_votes_of_all_sessions_are_counted(store: Store) -> None:
    run_id = logged(store)
    for wins, losses in ((3, 1), (2, 0)):
        votes = store.client.create_run("0", tags={"tunery.kind": "votes", "tunery.voted_run": run_id})
        store.client.log_metric(votes.info.run_id, "votes/wins", wins)
        store.client.log_metric(votes.info.run_id, "votes/losses", losses)
    [entry] = entries(read(store, Selection()))
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
    [entry] = entries(read(store, Selection()))
    assert entry.votes == Votes(wins=3, ties=0, losses=0)


def test_what_projects_and_studies_are_called_is_known(store: Store) -> None:
    logged(store, project="one, two", kind="trial", tags={"tunery.study": "a,b"})
    assert (is_project(store, "one, two"), is_project(store, "one")) == (True, False)
    assert (is_study(store, "a,b"), is_study(store, "a")) == (True, False)


def test_a_tag_that_no_filter_can_name_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match=r"--tag.*backquote"):
        read(store, Selection(tags=(("a`b", "1"),)))


def test_energy_is_the_integral_of_the_power_that_mlflow_saw(store: Store) -> None:
    run_id = logged(store)
    for seconds, watts in ((0, 100.0), (2, 300.0), (4, 300.0)):
        store.client.log_metric(run_id, "system/gpu_0_power_usage_watts", watts, timestamp=1000 * seconds)
    [reading] = with_answers(store, read(store, Selection()).readings)
    assert reading.entry.costs["energy_joules"] == 2 * 200.0 + 2 * 300.0


def test_curves_are_read_in_the_order_of_their_steps(store: Store) -> None:
    run_id = logged(store)
    for step, value in ((2, 0.5), (1, 0.9), (3, 0.4)):
        store.client.log_metric(run_id, "train/loss", value, step=step)
    [reading] = with_curves(store, read(store, Selection()).readings)
    assert reading.entry.curves == {"train/loss": [(1, 0.9), (2, 0.5), (3, 0.4)]}


def test_of_many_runs_the_best_configurations_are_tested_with_all_of_their_seeds(store: Store) -> None:
    for rank, values in ((8, BASE), (16, TUNED), (32, (0.0, 0.0, 0.0, 0.0))):
        for seed in (0, 1):
            logged(store, rank=rank, seed=seed, values=values, samples=False)
    tested = contenders(read(store, Selection()).readings, 2)
    assert sorted((one.settings["adapter.rank"], one.entry.seed) for one in tested) == [
        ("16", 0), ("16", 1), ("8", 0), ("8", 1),
    ]  # fmt: skip
