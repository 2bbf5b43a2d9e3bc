from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tunery.errors import StorageError
from tunery.records.runs import BaseIdentity
from tunery.records.scores import TaskResult
from tunery.tracking.base_scores import find, keep
from tunery.tracking.process import this_process
from tunery.tracking.store import Store, connect


def assert_same(one: TaskResult | None, other: TaskResult) -> None:
    assert one is not None
    assert (one.settings, one.scores, one.primary) == (other.settings, other.scores, other.primary)
    ours, theirs = one.samples.copy(), other.samples.copy()
    assert ours.pop("loglikelihoods").map(list).tolist() == theirs.pop("loglikelihoods").tolist()
    pd.testing.assert_frame_equal(ours, theirs)


def test_a_kept_result_is_found_whole_from_any_project(store: Store, identity: BaseIdentity, make_result: Any) -> None:
    keep(store, "key1", identity, make_result())
    assert_same(find(connect(store.uri, "another-project"), "key1"), make_result())


def test_what_was_not_kept_is_not_found(store: Store, identity: BaseIdentity, make_result: Any) -> None:
    keep(store, "key1", identity, make_result())
    assert find(store, "key2") is None


def test_a_run_of_base_scores_shows_its_numbers(store: Store, identity: BaseIdentity, make_result: Any) -> None:
    run = store.client.get_run(keep(store, "key1", identity, make_result()))
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"lm_eval/quiz/acc": 0.5, "lm_eval/quiz/acc_stderr": 0.25}
    assert (run.data.tags["tunery.kind"], run.data.tags["tunery.base"]) == ("base", "acme/base")
    assert run.data.tags["tunery.process"] == this_process(), "who is killed here leaves a run that is known to be left"


def test_a_base_with_offloaded_layers_is_kept_as_another_than_the_base_without(
    store: Store, identity: BaseIdentity, make_result: Any
) -> None:
    offloaded = replace(identity, details={"offloaded": ["model.layers.31"]})
    runs = [store.client.get_run(keep(store, "key", one, make_result())) for one in (identity, offloaded)]
    assert [run.data.tags["tunery.quantization"] for run in runs] == ["nf4", "nf4, offloaded"]


def test_a_deleted_artifact_counts_as_not_kept(store: Store, identity: BaseIdentity, make_result: Any) -> None:
    run_id = keep(store, "key1", identity, make_result())
    shutil.rmtree(Path(store.client.get_run(run_id).info.artifact_uri) / "samples")
    assert find(store, "key1") is None


def test_a_torn_artifact_counts_as_not_kept_and_an_older_whole_one_is_found(
    store: Store, identity: BaseIdentity, make_result: Any
) -> None:
    keep(store, "key1", identity, make_result())
    run_id = keep(store, "key1", identity, make_result(values=(1.0, 1.0)))
    [parquet] = Path(store.client.get_run(run_id).info.artifact_uri).rglob("*.parquet")
    parquet.write_bytes(parquet.read_bytes()[:100])
    assert_same(find(store, "key1"), make_result())


def test_two_that_keep_the_same_at_once_do_no_harm(store: Store, identity: BaseIdentity, make_result: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda _: keep(store, "key1", identity, make_result()), range(4)))
    assert len(set(kept)) == 4
    assert_same(find(store, "key1"), make_result())


def test_an_artifact_store_that_cannot_be_written_is_told_and_leaves_no_run_running(
    store: Store, identity: BaseIdentity, make_result: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "mlruns")

    monkeypatch.setattr(store.client, "log_artifacts", refuse)
    with pytest.raises(StorageError, match=r"Read-only file system: 'mlruns'.*rights and space"):
        keep(store, "key1", identity, make_result())
    experiment = store.client.get_experiment_by_name("tunery-base-scores").experiment_id
    assert [run.info.status for run in store.client.search_runs([experiment])] == ["FAILED"]
