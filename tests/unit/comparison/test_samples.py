"""Answers of runs and of their bases, and the runs that are tested by them."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.compared import BASE, IDENTITY, TUNED, logged, result

from tunery.comparison.compare import CompareOptions, gather
from tunery.comparison.read import read
from tunery.comparison.samples import best_configurations, with_answers, with_curves
from tunery.comparison.selection import Selection
from tunery.records.scores import TaskSettings
from tunery.tracking import base_scores
from tunery.tracking.store import Store, connect


def test_answers_of_a_run_and_of_its_base_are_paired_by_item(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE))
    logged(store)
    [entry] = with_answers(store, read(store, Selection())[0])
    samples, base = entry.samples["quiz"], entry.base_samples["quiz"]
    assert sorted(samples.columns) == ["acc", "item_id"], "of 20,000 items nothing else is held in memory"
    assert samples["acc"].tolist() == list(TUNED)
    assert base["acc"].tolist() == list(BASE)


def test_the_answers_of_a_multiple_choice_are_named_and_its_texts_let_go(store: Store) -> None:
    logged(store, choices=("yes", "no"))
    [entry] = with_answers(store, read(store, Selection())[0])
    samples = entry.samples["quiz"]
    assert sorted(samples.columns) == ["acc", "chosen", "item_id", "right"]
    assert (samples["chosen"].astype(str) == samples["right"].astype(str)).astype(float).tolist() == list(TUNED)


def test_a_base_that_was_asked_otherwise_is_not_taken(store: Store) -> None:
    other = replace(result(BASE), settings=TaskSettings("quiz", "2.0", 0, None, True))
    base_scores.keep(store, "key", IDENTITY, other)
    logged(store)
    [entry] = with_answers(store, read(store, Selection())[0])
    assert entry.base_samples == {}


@pytest.mark.parametrize(("template", "taken"), [("own", True), ("own, enable_thinking=false", False)])
def test_a_base_that_was_asked_through_another_template_is_not_taken(store: Store, template: str, taken: bool) -> None:
    base_scores.keep(store, "key", replace(IDENTITY, details={"template": "own"}), result(BASE))
    logged(store, template=template)
    [entry] = with_answers(store, read(store, Selection())[0])
    assert bool(entry.base_samples) == taken


def test_each_wording_of_a_set_of_answers_has_its_own_base_beside_it(store: Store) -> None:
    scored = {"Q": BASE, "A": (0.0, 1.0, 1.0, 0.0)}
    for word, values in scored.items():
        base_scores.keep(store, word, IDENTITY, result(values, wording=word))
        logged(store, name=word, base=values, wording=word)
    entries = with_answers(store, read(store, Selection())[0])
    assert {one.name: tuple(one.base_samples["quiz"]["acc"]) for one in entries} == scored
    assert len({one.configuration for one in entries}) == 2


def test_a_bare_base_in_two_wordings_is_two_rows(store: Store) -> None:
    for word in ("Q", "A"):
        logged(store, kind="evaluation", name=word, wording=word, tags={"tunery.method": "none"})
    assert len({one.configuration for one in read(store, Selection())[0]}) == 2


def test_a_later_base_of_fewer_items_hides_no_base_of_the_same_items(store: Store) -> None:
    base_scores.keep(store, "all", IDENTITY, result(BASE))
    few = result(BASE[:2])
    base_scores.keep(store, "few", IDENTITY, replace(few, settings=replace(few.settings, limit=2)))
    run_id = logged(store, split="locked")
    store.client.log_metric(run_id, "locked/quiz/acc", 0.5)  # no base beside it: any base could be meant
    [entry] = with_answers(store, read(store, Selection())[0])
    assert entry.base_samples["quiz"]["item_id"].tolist() == ["item1", "item3"]
    assert entry.tasks["quiz"].base == 0.0


def test_a_task_whose_name_no_param_takes_keeps_its_answers_and_its_base(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE, "group::quiz"))
    logged(store, task="group::quiz")
    [entry] = with_answers(store, read(store, Selection())[0])
    assert list(entry.tasks) == ["group::quiz"]
    assert entry.samples["group::quiz"]["acc"].tolist() == list(TUNED)
    assert entry.base_samples["group::quiz"]["acc"].tolist() == list(BASE)


def test_runs_with_infinite_scores_are_not_the_best_configurations(store: Store) -> None:
    good = logged(store, rank=8, values=BASE)
    for seed, value in enumerate((math.inf, math.inf, -math.inf)):
        run_id = logged(store, rank=16, seed=seed)
        store.client.log_metric(run_id, "lm_eval/quiz/acc", value)
    [best] = best_configurations(read(store, Selection())[0], 1)
    assert best.run_id == good


def test_a_run_without_samples_keeps_its_scores_and_says_so(store: Store) -> None:
    logged(store, samples=False)
    [entry] = with_answers(store, read(store, Selection())[0])
    assert entry.tasks["quiz"].value == 0.75
    assert entry.samples == {}
    assert "keeps no answers of quiz" in entry.notes


def test_answers_of_a_moved_store_are_out_of_reach_and_not_never_kept(
    store: Store, fresh_database: Path, tmp_path: Path
) -> None:
    (tmp_path / "then").mkdir()
    shutil.copy2(fresh_database, tmp_path / "then" / "mlflow.db")
    logged(connect(f"sqlite:///{tmp_path}/then/mlflow.db", "small"), name="plain")
    shutil.move(tmp_path / "then", tmp_path / "now")
    (tmp_path / "then").mkdir()  # of another project by now
    entries, notes = gather(connect(f"sqlite:///{tmp_path}/now/mlflow.db", "small"), Selection(), CompareOptions())
    [note] = [note for note in notes if "amples" in note]
    assert note.startswith(f"Samples out of reach: plain. They were kept, but {tmp_path}/then/mlruns/small/")
    assert f"ln -s {tmp_path}/now/mlruns {tmp_path}/then/mlruns" in note
    assert entries[0].notes[-1].startswith("its answers of quiz are out of reach: ")


def test_beside_a_run_that_was_chosen_on_dev_items_the_others_are_taken_on_locked_ones(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE))
    logged(store, name="plain", values=(0.0, 1.0, 1.0, 0.0))
    chosen = logged(store, name="chosen", rank=16, split="locked")
    store.client.log_metric(chosen, "locked/quiz/acc", 0.5)  # items 1 and 3 of TUNED
    full = {one.name: one for one in with_answers(store, read(store, Selection())[0])}
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
    [entry] = with_answers(store, read(store, Selection())[0])
    assert entry.samples["quiz"]["passage"].tolist() == ["p", "p", "item2", "item3"]


def test_energy_is_the_integral_of_the_power_that_mlflow_saw(store: Store) -> None:
    run_id = logged(store)
    for seconds, watts in ((0, 100.0), (2, 300.0), (4, 300.0)):
        store.client.log_metric(run_id, "system/gpu_0_power_usage_watts", watts, timestamp=1000 * seconds)
    [entry] = with_answers(store, read(store, Selection())[0])
    assert entry.costs["energy_joules"] == 2 * 200.0 + 2 * 300.0


def test_curves_are_read_in_the_order_of_their_steps(store: Store) -> None:
    run_id = logged(store)
    for step, value in ((2, 0.5), (1, 0.9), (3, 0.4)):
        store.client.log_metric(run_id, "train/loss", value, step=step)
    store.client.log_metric(run_id, "validation/nll", 1.5, step=3)
    [entry] = with_curves(store, read(store, Selection())[0])
    assert entry.curves == {"train/loss": [(1, 0.9), (2, 0.5), (3, 0.4)], "validation/nll": [(3, 1.5)]}


def test_of_many_runs_the_best_configurations_are_tested_with_all_of_their_seeds(store: Store) -> None:
    for rank, values in ((8, BASE), (16, TUNED), (32, (0.0, 0.0, 0.0, 0.0))):
        for seed in (0, 1):
            logged(store, rank=rank, seed=seed, values=values, samples=False)
    tested = best_configurations(read(store, Selection())[0], 2)
    assert sorted((one.settings["adapter.rank"], one.seed) for one in tested) == [
        ("16", 0), ("16", 1), ("8", 0), ("8", 1),
    ]  # fmt: skip
