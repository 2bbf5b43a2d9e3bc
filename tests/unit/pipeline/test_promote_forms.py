"""The process in which models are asked, and how far the answers of two forms are from each other."""

from __future__ import annotations

import os
import time

import pandas as pd
import pytest

from tunery.pipeline.forms import Asking, form_scores
from tunery.pipeline.forms_process import Answers
from tunery.records import Score, TaskResult, TaskSettings

PRIMARY = {"quiz": "acc"}


def result(values: list[float], logs: list[list[float]]) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(values))], "acc": values, "loglikelihoods": logs})
    mean = sum(values) / len(values)
    return TaskResult(
        TaskSettings("quiz", "1", 0, None, True), {"acc": Score("quiz", "acc", mean, None, len(values))}, samples
    )


def test_a_process_that_dies_takes_one_form_with_it_and_no_other() -> None:
    with Asking() as asking:
        died = asking._run(("adapter", "merged"), os._exit, 9)  # type: ignore[arg-type]
        assert set(died.faults) == {"adapter", "merged"}
        assert "killed" in died.faults["merged"]
        assert asking._run(("trained",), Answers) == Answers()


def test_nobody_waits_for_a_scoring_that_was_interrupted() -> None:
    def interrupted() -> None:
        with Asking() as asking:
            asking._pool.submit(time.sleep, 600)
            asking._pool.submit(Answers)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 300


def test_the_drift_of_a_form_is_told_in_score_items_and_nats() -> None:
    trained = result([1, 1, 0, 0], [[-1.0, -2.0]] * 4)
    merged = result([1, 0, 1, 1], [[-1.0, -2.0]] * 3 + [[-1.5, -1.0]])
    answers = Answers({"trained": {"quiz": trained}, "merged": {"quiz": merged}}, {"adapter": "no memory"})
    found = form_scores(answers, PRIMARY, 0.95)
    assert (found["trained"].drift, found["trained"].changed, found["trained"].loglikelihood) == (0.0, 0, 0.0)
    assert (found["merged"].score, found["merged"].drift, found["merged"].changed) == (0.75, 0.25, 3)
    assert found["merged"].loglikelihood == 1.0
    assert (found["adapter"].score, found["adapter"].fault) == (None, "no memory")


def test_answers_that_were_written_have_no_loglikelihoods() -> None:
    written = result([1.0], [[]])
    assert form_scores(Answers({"trained": {"quiz": written}}), PRIMARY, 0.95)["trained"].loglikelihood is None
