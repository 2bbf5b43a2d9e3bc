"""The process in which models are asked, and how far the answers of two forms are from each other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tunery.errors import OutOfMemory
from tunery.promotion import forms_process
from tunery.promotion.forms import Asking, form_scores
from tunery.promotion.forms_process import FormAnswers, FormJob
from tunery.promotion.measure import _joined
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
        assert asking._run(("trained",), FormAnswers) == FormAnswers()


def test_nobody_waits_for_a_scoring_that_was_interrupted() -> None:
    def interrupted() -> None:
        with Asking() as asking:
            asking._pool.submit(time.sleep, 600)
            asking._pool.submit(FormAnswers)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 300


def test_the_drift_of_a_form_is_told_in_score_items_and_nats() -> None:
    trained = result([1, 1, 0, 0], [[-1.0, -2.0]] * 4)
    merged = result([1, 0, 1, 1], [[-1.0, -2.0]] * 3 + [[-1.5, -1.0]])
    answers = FormAnswers({"trained": {"quiz": trained}, "merged": {"quiz": merged}}, {"adapter": "no memory"})
    found = form_scores(answers, PRIMARY, 0.95)
    assert (found["trained"].drift, found["trained"].changed, found["trained"].loglikelihood) == (0.0, 0, 0.0)
    assert (found["merged"].score, found["merged"].drift, found["merged"].changed) == (0.75, 0.25, 3)
    assert found["merged"].loglikelihood == 1.0
    assert (found["adapter"].score, found["adapter"].fault) == (None, "no memory")


class Loaded:
    """A model with an adapter that can be switched off; merging takes the adapter away."""

    def __init__(self) -> None:
        self.state = "adapter"
        self.model, self.loaded = self, SimpleNamespace(tokenizer=None, of=self)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.state, before = "base", self.state
        yield
        self.state = before

    def merge_and_unload(self, safe_merge: bool) -> Loaded:
        self.state = "merged" if safe_merge else "merged, whatever is in it"
        return self

    def eval(self) -> Loaded:
        return self


@pytest.fixture
def sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of answers, each result tells in what state the model was asked."""
    for name, stand_in in {
        "_questions": lambda job: (None, None),
        "_sixteen_bits": lambda folder: "bfloat16",
        "_load": lambda *words: Loaded(),
        "_ask": lambda model, *words: model.state,
        "_base_locked": lambda loaded, *words: loaded.of.state,
    }.items():
        monkeypatch.setattr(forms_process, name, stand_in)


@pytest.mark.usefixtures("sixteen_bits")
def test_the_base_is_asked_in_the_weights_of_the_form_that_is_deployed() -> None:
    job = FormJob(Path(), {}, Path(), "")
    answers = forms_process.score_unquantised(job, ("adapter", "merged"), with_base=True)
    assert (answers.base, answers.results) == ("base", {"adapter": "adapter", "merged": "merged"})
    four_bits = FormAnswers({"trained": {}}, base={"quiz": result([1.0], [[]])}, primary=PRIMARY)
    assert _joined(four_bits, answers).base == "base"
    assert _joined(four_bits, forms_process.score_unquantised(job, ("merged",))).base == four_bits.base


@pytest.mark.usefixtures("sixteen_bits")
def test_no_form_is_compared_with_a_base_in_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutOfMemory("scoring the base", "no memory")

    monkeypatch.setattr(forms_process, "_base_locked", full)
    answers = forms_process.score_unquantised(FormJob(Path(), {}, Path(), ""), ("adapter", "merged"), with_base=True)
    assert (answers.results, set(answers.faults)) == ({}, {"adapter", "merged"})


@pytest.mark.parametrize(("quantization", "asked"), [("nf4", True), ("none", False)])
def test_the_base_of_a_model_that_was_trained_in_sixteen_bits_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, quantization: str, asked: bool
) -> None:
    asking, calls = Asking(), []
    monkeypatch.setattr(asking, "_run", lambda *words: calls.append(words) or FormAnswers())
    facts: Any = SimpleNamespace(method="lora", identity=SimpleNamespace(quantization=quantization, dtype="bfloat16"))
    asking.others(FormJob(Path(), {}, Path(), ""), FormAnswers({"trained": {}}), facts, with_base=True)
    assert calls[0][-1] is asked


def test_answers_that_were_written_have_no_loglikelihoods() -> None:
    written = result([1.0], [[]])
    assert form_scores(FormAnswers({"trained": {"quiz": written}}), PRIMARY, 0.95)["trained"].loglikelihood is None
