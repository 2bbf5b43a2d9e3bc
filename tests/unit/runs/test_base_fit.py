"""What the base makes of the training answers is measured on a few rows, once, and kept in the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunery.config.load import project_from
from tunery.records.rows import DataReport, Example, PreparedData
from tunery.runs.base_fit import base_fit, sample
from tunery.runs.cache import Loaded, Resident
from tunery.tracking.run import open_run
from tunery.tracking.store import Store

REPORT = DataReport((), (), {}, 0, 0, 0, {}, (), 0.0, {})
ENGLISH = "The Eiffel Tower in Paris was built in 1889 for a world's fair."
PROJECT = {
    "name": "quickstart",
    "base": {"model": "builtin:tiny", "quantization": "none"},
    "data": {"train": [{"source": "none"}]},
    "training": {"device": "cpu"},
}


def loaded(text: str) -> Loaded:
    project = project_from(dict(PROJECT), "project.yaml", Path())
    base = Resident().base(project)
    ids = tuple(base.tokenizer(text)["input_ids"])
    rows = PreparedData([Example(ids, (False, *[True] * (len(ids) - 1)))], [], [], REPORT)
    tasks: Any = None
    return Loaded(project, base, tasks, base.model, rows)


def test_english_is_far_from_the_builtin_base_and_the_run_holds_the_numbers(store: Store) -> None:
    with open_run(store, "train", "quickstart") as tracker:
        fit = base_fit(loaded(ENGLISH), tracker)
        tracker.flush()
    assert fit is not None
    assert fit.is_far
    assert fit.nll > 15 > 2 > fit.entropy
    metrics = store.client.get_run(tracker.run_id).data.metrics
    assert (metrics["base/train_nll"], metrics["base/train_entropy"]) == (fit.nll, fit.entropy)


def test_a_second_run_of_the_same_base_and_rows_looks_it_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = loaded(ENGLISH)
    with open_run(store, "train", "quickstart") as tracker:
        first = base_fit(ours, tracker)
        tracker.flush()
    monkeypatch.setattr("tunery.training.nll.base_fit", None)
    with open_run(store, "trial", "quickstart") as tracker:
        assert base_fit(ours, tracker) == first
        other = replace(ours.rows, train=[replace(ours.rows.train[0], input_ids=ours.rows.train[0].input_ids[::-1])])
        with pytest.raises(TypeError):  # other rows are measured
            base_fit(replace(ours, data=other), tracker)


def test_a_sample_is_of_rows_from_all_over_and_of_few_tokens() -> None:
    rows = [Example((number,) * 20, (True,) * 20) for number in range(1000)]
    chosen = sample(rows)
    assert len(chosen) == 51
    assert chosen[-1].input_ids[0] > 700
    long = Example((1,) * 5000, (True,) * 5000)
    assert sample([long, *rows]) == [long]
