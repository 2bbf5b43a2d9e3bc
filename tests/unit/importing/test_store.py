"""Imported results as runs: kept once, and read as entries that pair with our own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from tests.compared import BASE, TUNED, logged, result

from tunery.comparison.entries import RunEntry
from tunery.comparison.read import read
from tunery.comparison.samples import with_answers
from tunery.comparison.selection import Selection
from tunery.errors import TrackingError
from tunery.evaluation.samples import items_digest
from tunery.importing import store as import_store
from tunery.importing.store import ImportedRun, ImportedTask, keep_import, keep_imports, known_imports
from tunery.tracking import search
from tunery.tracking.run import PROCESS
from tunery.tracking.scores import CONSTANTS
from tunery.tracking.store import Store


def imported(**changes: Any) -> ImportedRun:
    samples = result(BASE).samples
    conditions = {
        "version": "1.0",
        "few_shot": 0,
        "prompt": "p",
        "items": items_digest(result(BASE).samples["item_id"]),
        "count": 4,
    }
    task = ImportedTask("f1", {"f1": 0.25, "acc": 0.25}, {"acc": 0.25}, {"acc": 0.2}, {}, conditions, samples)
    whole = ImportedRun(
        "theirs", "digest1", "results.json", "acme/base", "lora", {"quiz": task}, trained_on="theirs.jsonl", seed=5,
        train_rows=70, settings={"adapter.r": "32"}, metrics={"train_seconds": 3.0}, time_ms=1_700_000_000_000,
        curves={"train/loss": [(1, 0.9), (2, 0.5)]}, note="a note",
    )  # fmt: skip
    return replace(whole, **changes)


def only(store: Store, selection: Selection | None = None) -> RunEntry:
    [entry] = with_answers(store, read(store, selection or Selection())[0])
    return entry


def test_an_import_is_found_by_its_digest(store: Store) -> None:
    run_id = keep_import(store, imported(), "imports")
    assert known_imports(store) == {"digest1": (run_id, "imports")}
    run = store.client.get_run(run_id)
    assert (run.info.status, run.info.start_time) == ("FINISHED", 1_700_000_000_000)
    assert run.data.tags["tunery.kind"] == "import"
    assert run.data.metrics["score"] == 0.25


def test_many_imports_are_written_at_once_as_mlflow_s_client_writes_each(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ImportedTask("f1", {"f1": 0.25, "acc": math.nan, "em": math.inf}, {"acc": 0.25}, {"acc": 0.2})
    rows = [
        imported(
            name=f"row {number}, é", digest=f"digest{number}", seed=number, tasks={"quiz": task}, settings=settings
        )
        for number, settings in enumerate([{"adapter.r": "32", "a,b": "x" * 7000}, {}, {"token": "hf_" + "a1" * 17}])
    ]
    with_answers_of_its_own = imported(digest="digest9")
    other = replace(store, experiment="one by one")
    one_by_one = [keep_import(other, row, "imports") for row in [*rows, with_answers_of_its_own]]
    kept = list(keep_imports(store, [rows[0], with_answers_of_its_own, *rows[1:]], "imports"))
    assert [run.digest for run, _ in kept] == ["digest0", "digest9", "digest1", "digest2"]
    ids = {run.digest: run_id for run, run_id in kept}
    for then, row in zip(one_by_one, [*rows, with_answers_of_its_own], strict=True):
        assert _all_of(store, ids[row.digest]) == _all_of(store, then)


def _all_of(store: Store, run_id: str) -> dict[str, Any]:
    """All that MLflow's client tells of a run but its ids, and when it ended."""
    run = store.client.get_run(run_id)
    info = {name: value for name, value in dict(run.info).items() if name not in ("run_id", "run_uuid", "end_time")}
    experiment = store.client.get_experiment(info.pop("experiment_id"))
    assert info.pop("artifact_uri") == f"{experiment.artifact_location}/{run_id}/artifacts"
    assert run.info.end_time >= run.info.start_time
    points = {
        name: [
            repr((point.step, point.timestamp, point.value)) for point in store.client.get_metric_history(run_id, name)
        ]
        for name in run.data.metrics
    }
    latest = {name: repr(value) for name, value in run.data.metrics.items()}
    tags = {name: value for name, value in run.data.tags.items() if name != PROCESS}
    return {**info, "points": points, "latest": latest, "params": run.data.params, "tags": tags}


def test_of_many_imports_none_is_kept_if_one_is_refused(store: Store) -> None:
    rows = [imported(tasks={}), imported(digest="digest2", name="other", tasks={}, metrics={"x" * 300: 1.0})]
    with pytest.raises(TrackingError):
        list(keep_imports(store, rows, "imports"))
    assert known_imports(store) == {}
    assert list(search.search_runs(store)) == []


def test_counts_and_sizes_of_an_import_are_params_that_a_comparison_reads(store: Store) -> None:
    costs = {"train_seconds": 3.0, "trainable_parameters": 9175040.0, "model_bytes": 36.5}
    run = store.client.get_run(keep_import(store, imported(metrics=costs), "imports"))
    shown = {name: run.data.params.get(name) for name in CONSTANTS}
    assert shown == {"train_rows": "70", "trainable_parameters": "9175040", "model_bytes": "36.5"}
    assert not set(CONSTANTS) & set(run.data.metrics), "MLflow would draw a chart of each"
    assert (only(store).costs, only(store).train_rows) == (costs, 70)


def test_an_import_reads_back_as_an_entry(store: Store) -> None:
    keep_import(store, imported(), "imports")
    entry = only(store)
    assert (entry.name, entry.kind, entry.base, entry.method, entry.seed) == (
        "theirs",
        "import",
        "acme/base",
        "lora",
        5,
    )
    assert (entry.trained_on, entry.train_rows, entry.costs) == ("theirs.jsonl", 70, {"train_seconds": 3.0})
    assert (entry.source, entry.notes) == ("results.json", ("a note",))
    score = entry.tasks["quiz"]
    assert (score.metric, score.value, score.items) == ("f1", 0.25, 4)
    assert "chat_template" not in score.conditions, "what the file does not tell is missing"
    pd.testing.assert_series_equal(entry.samples["quiz"]["f1"], result(BASE).samples["f1"], check_names=False)


def test_beside_our_own_runs_an_import_is_scored_by_their_metric_and_pairs_with_their_items(store: Store) -> None:
    logged(store, name="ours")
    keep_import(store, imported(), "imports")
    found = {entry.name: entry for entry in with_answers(store, read(store, Selection())[0])}
    ours, theirs = found["ours"], found["theirs"]
    score = theirs.tasks["quiz"]
    assert (score.metric, score.value, score.stderr, score.base) == ("acc", 0.25, 0.25, 0.2)
    assert score.conditions["items"] == ours.tasks["quiz"].conditions["items"]
    assert list(theirs.samples["quiz"]["item_id"]) == list(ours.samples["quiz"]["item_id"])
    assert list(ours.samples["quiz"]["acc"]) == list(TUNED)


def test_imports_are_found_on_every_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_PAGE", 1)
    for number in range(3):
        keep_import(replace(store, experiment=f"place {number}"), imported(digest=f"digest{number}"), "imports")
    assert sorted(known_imports(store)) == ["digest0", "digest1", "digest2"]


def test_seeds_of_one_name_are_one_configuration_and_another_name_is_another(store: Store) -> None:
    for name, seed in (("lora", 0), ("lora", 1), ("full", 0)):
        keep_import(store, imported(name=name, seed=seed, digest=f"{name}{seed}", settings={}), "imports")
    entries, _ = read(store, Selection())
    assert sorted((entry.name, entry.seed) for entry in entries) == [("full", 0), ("lora", 0), ("lora", 1)]
    assert len({entry.configuration for entry in entries if entry.name == "lora"}) == 1
    assert len({entry.configuration for entry in entries}) == 2


def test_a_name_of_our_own_making_does_not_part_the_seeds_of_a_configuration(store: Store) -> None:
    for seed in (0, 1):
        row = imported(name=f"table line {seed}", seed=seed, digest=str(seed), name_counts=False)
        keep_import(store, row, "imports")
    assert len({entry.configuration for entry in read(store, Selection())[0]}) == 1


def test_two_files_of_one_model_are_one_row(store: Store) -> None:
    keep_import(store, imported(), "imports")
    task = ImportedTask("acc", {"acc": 0.5}, conditions={"version": "1.0"})
    keep_import(store, imported(digest="digest2", tasks={"riddles": task}), "imports")
    assert sorted(only(store).tasks) == ["quiz", "riddles"]


def test_imports_are_added_to_a_project(store: Store) -> None:
    logged(store, name="ours", project="small")
    keep_import(store, imported(), "imports")
    found, _ = read(store, Selection(projects=("small",), imported=True))
    assert sorted(entry.name for entry in found) == ["ours", "theirs"]


def test_an_import_that_broke_off_is_no_whole_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise TrackingError("store", "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(import_store, "_upload", broken)
        with pytest.raises(TrackingError):
            keep_import(store, imported(), "imports")
    assert known_imports(store) == {}
    keep_import(store, imported(), "imports")
    assert len(known_imports(store)) == 1
