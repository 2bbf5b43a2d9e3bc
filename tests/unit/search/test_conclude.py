"""A study's record and its looks at locked items, as the storage keeps them; its own numbers in MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pytest
from tests.unit.search.conftest import MakeProject

from tunery.records.studies import Finalist, StudyRecord, TrialRow
from tunery.search import conclude
from tunery.search.conclude import (
    _best_run,
    _looked_before,
    _looks,
    _metrics,
    failed_for_good,
    store_record,
    stored_record,
)
from tunery.search.study import queue
from tunery.search.study.study import create_job_study

_MYSQL_TEXT_BYTES = 65_535


def record(trials: int) -> StudyRecord:
    rows = [
        TrialRow(
            number=number,
            state="complete",
            settings={"data.train.0.prompt_template": 'Say "ü" to \\n {prompt}'},
            values={"score": 0.5},
            metrics={f"lm_eval/task_{task}/acc": 0.5 for task in range(20)},
            seconds=float(number),
        )
        for number in range(trials)
    ]
    return StudyRecord(
        name="s", project="p", run_id="r", objectives={"score": "maximize"}, constraints={}, sampler="tpe",
        pruner="none", seed=0, trials=rows, finalists=[], notes=[],
    )  # fmt: skip


@pytest.mark.parametrize("trials", [0, 300])
def test_a_record_of_any_length_comes_back_as_it_was(trials: int) -> None:
    study = optuna.create_study()
    trial = study.ask()
    assert stored_record(study.trials[0]) is None
    store_record(trial, record(trials))
    kept = study.trials[0]
    assert stored_record(kept) == record(trials)
    longest = max(len(json.dumps(value).encode()) for value in kept.user_attrs.values())
    assert longest <= _MYSQL_TEXT_BYTES


def finalists(runs: Sequence[str]) -> list[Finalist]:
    one = Finalist(
        trial=1, name="x", settings={}, seeds=(1,), dev=(0.5,), locked=(), run_ids=tuple(runs),
        own=False, values=(0.5,), refused=None,
    )  # fmt: skip
    return [one]


def test_finalists_come_back_as_they_were() -> None:
    study = optuna.create_study()
    trial = study.ask()
    entered = [replace(finalists(["a"])[0], further={"train_seconds": (60.0,)})]
    store_record(trial, replace(record(1), finalists=entered))
    kept = stored_record(study.trials[0])
    assert kept is not None
    assert list(kept.finalists) == entered


def test_the_seed_that_is_registered_is_the_best_of_equal_ones_by_the_next_objective() -> None:
    (one,) = finalists(["a", "b", "c"])
    entered = [replace(one, values=(0.5, 0.5, 0.4), further={"train_seconds": (30.0, 20.0, 10.0)})]
    objectives = {"score": "maximize", "train_seconds": "minimize"}
    assert _best_run(replace(record(1), objectives=objectives, finalists=entered, winner=1), cast(Any, None)) == "b"


def test_base_and_parent_are_shown_as_they_were_asked_for_the_winner(
    make: MakeProject, conclusions: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under variants of the prompt each has a base score of its own; the gap from dev to locked items is of one."""
    told = record(3)
    scores = [0.1, 0.2, 0.3]
    trials = [
        replace(row, metrics={"base/score": score, "parent/score": score + 0.4})
        for row, score in zip(told.trials, scores, strict=True)
    ]
    entered = [replace(finalists([name])[0], trial=number) for number, name in ((0, "a"), (2, "b"))]
    monkeypatch.setattr(conclude, "score_locked", lambda *_: {})
    monkeypatch.setattr(conclude, "locked_base", lambda *_: {})
    monkeypatch.setattr(conclude, "locked_parent", lambda *_: {"quiz": None})
    monkeypatch.setattr(conclude, "compare_scores", lambda *_: None)
    monkeypatch.setattr("tunery.evaluation.result.headline", lambda *_: 0.35)
    resident = SimpleNamespace(tasks=lambda _: SimpleNamespace(counting=lambda _: {}))
    progress = SimpleNamespace(phase=lambda _: None)
    worker: Any = SimpleNamespace(project=make(), resident=resident, store=None, progress=progress)
    asked = replace(told, trials=trials, finalists=entered, winner=2, base_dev=0.1)
    found = conclude._with_locked(worker, asked, conclusions)
    assert (found.base_dev, found.base_locked) == (0.3, 0.35)
    assert (found.parent_dev, found.parent_locked) == (0.7, 0.35)


def test_a_conclusion_that_is_made_again_looks_at_nothing_new() -> None:
    study = optuna.create_study()
    assert [_looks(study, finalists(runs)) for runs in (["a", "b"], ["b", "a"], ["a", "c"], ["a", "b"])] == [1, 1, 2, 2]
    assert list(_looked_before(1)) == []
    (said,) = _looked_before(2)
    assert "scored for 2 sets of finalists" in said


@pytest.fixture
def conclusions() -> optuna.Study:
    """The study that holds conclusions: one, begun by a worker."""
    study = create_job_study(optuna.storages.InMemoryStorage(), "small end", [queue.TrialJob("digest:0")], "maximize")
    study.ask()
    return study


def last(study: optuna.Study) -> optuna.trial.FrozenTrial:
    return study.trials[-1]


def test_a_host_that_comes_back_finds_the_conclusion_that_it_was_stopped_in(conclusions: optuna.Study) -> None:
    queue.requeue(conclusions, last(conclusions), died=False)
    assert failed_for_good(conclusions) == 0  # the same key again: the locked items are not scored a second time
    create_job_study(conclusions._storage, "small end", [queue.TrialJob("digest:0")], "maximize")
    assert [trial.state.name for trial in conclusions.trials] == ["FAIL", "WAITING"]


def test_a_conclusion_that_failed_is_repeated_under_another_key(conclusions: optuna.Study) -> None:
    queue.fail(conclusions, last(conclusions), "error", "the disk is full")
    assert failed_for_good(conclusions) == 1


def test_a_conclusion_whose_workers_died_too_often_is_repeated_under_another_key(conclusions: optuna.Study) -> None:
    for _ in range(queue.MOST_RETRIES):
        queue.requeue(conclusions, last(conclusions), died=True)
        assert failed_for_good(conclusions) == 0
        conclusions.ask()
    queue.requeue(conclusions, last(conclusions), died=True)
    assert failed_for_good(conclusions) == 1


def test_the_studys_own_numbers_hold_what_the_winner_was_chosen_by() -> None:
    (one,) = finalists(["a"])
    entered = [replace(one, values=(7.0, 8.0), further={"score": (0.5, 0.7)}, dev=(0.5, 0.7))]
    objectives = {"validation/nll": "minimize", "score": "maximize"}
    found = _metrics(replace(record(1), objectives=objectives, finalists=entered, winner=1))
    assert (found["winner/validation/nll"], found["winner/dev/score"]) == (7.5, 0.6)
    assert "winner/dev/score" not in _metrics(
        replace(record(1), objectives=objectives, finalists=[replace(entered[0], dev=())], winner=1)
    )
