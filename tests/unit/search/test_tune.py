"""A study is concluded once for each set of finals, whoever of its hosts is stopped meanwhile."""

from __future__ import annotations

import optuna
import pytest

from tunery.search.study import queue
from tunery.search.study.study import lay_out_finals
from tunery.search.tune import failed_for_good


@pytest.fixture
def end() -> optuna.Study:
    """The study that holds conclusions: one, begun by a worker."""
    study = lay_out_finals(optuna.storages.InMemoryStorage(), "small end", [queue.TrialJob("digest:0")], "maximize")
    study.ask()
    return study


def last(study: optuna.Study) -> optuna.trial.FrozenTrial:
    return study.trials[-1]


def test_a_host_that_comes_back_finds_the_conclusion_that_it_was_stopped_in(end: optuna.Study) -> None:
    queue.requeue(end, last(end), died=False)
    assert failed_for_good(end) == 0  # the same name again: nobody looks at the locked items a second time
    lay_out_finals(end._storage, "small end", [queue.TrialJob("digest:0")], "maximize")
    assert [trial.state.name for trial in end.trials] == ["FAIL", "WAITING"]


def test_a_conclusion_that_failed_is_tried_again_under_another_name(end: optuna.Study) -> None:
    queue.fail(end, last(end), "error", "the disk is full")
    assert failed_for_good(end) == 1


def test_a_conclusion_whose_workers_died_too_often_is_tried_again_under_another_name(end: optuna.Study) -> None:
    for _ in range(queue.MOST_RETRIES):
        queue.requeue(end, last(end), died=True)
        assert failed_for_good(end) == 0
        end.ask()
    queue.requeue(end, last(end), died=True)
    assert failed_for_good(end) == 1
