"""The process in which models are scored."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tunery.errors import OutOfMemory
from tunery.promotion import scoring_process
from tunery.promotion.measure import _joined
from tunery.promotion.scoring_process import FormAnswers, FormJob, ScoringProcess
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.reporting import pace

PRIMARY = {"quiz": "acc"}


def result(values: list[float], logs: list[list[float]]) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(values))], "acc": values, "loglikelihoods": logs})
    mean = sum(values) / len(values)
    return TaskResult(
        TaskSettings("quiz", "1", 0, None, True), {"acc": Score("quiz", "acc", mean, None, len(values))}, samples
    )


def test_a_process_that_dies_loses_only_the_form_it_was_scoring() -> None:
    with ScoringProcess() as process:
        died = process._run(("adapter", "merged"), os._exit, 9)  # type: ignore[arg-type]
        assert set(died.faults) == {"adapter", "merged"}
        assert "killed" in died.faults["merged"]
        assert process._run(("trained",), FormAnswers) == FormAnswers()


def test_an_interrupted_scoring_is_not_waited_for() -> None:
    def interrupted() -> None:
        with ScoringProcess() as process:
            process._pool.submit(time.sleep, 600)
            process._pool.submit(FormAnswers)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 300


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
    """Each result is the state that the model was in."""
    for name, stand_in in {
        "_project_and_tasks": lambda job: (None, None),
        "_sixteen_bits": lambda folder: "bfloat16",
        "_load": lambda *words: Loaded(),
        "_score_locked": lambda model, *words: model.state,
        "_score_base": lambda loaded, *words: loaded.of.state,
    }.items():
        monkeypatch.setattr(scoring_process, name, stand_in)


@pytest.mark.usefixtures("sixteen_bits")
def test_the_base_is_scored_in_the_weights_of_the_form_that_is_deployed() -> None:
    job = FormJob(Path(), {}, Path(), "")
    answers = scoring_process.score_unquantised(job, ("adapter", "merged"), with_base=True)
    assert (answers.base, answers.results) == ("base", {"adapter": "adapter", "merged": "merged"})
    four_bits = FormAnswers({"trained": {}}, base={"quiz": result([1.0], [[]])}, primary=PRIMARY)
    assert _joined(four_bits, answers).base == "base"
    assert _joined(four_bits, scoring_process.score_unquantised(job, ("merged",))).base == four_bits.base


@pytest.mark.usefixtures("sixteen_bits")
def test_no_form_is_compared_with_a_base_in_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutOfMemory("scoring the base", "no memory")

    monkeypatch.setattr(scoring_process, "_score_base", full)
    answers = scoring_process.score_unquantised(FormJob(Path(), {}, Path(), ""), ("adapter", "merged"), with_base=True)
    assert (answers.results, set(answers.faults)) == ({}, {"adapter", "merged"})


@pytest.mark.parametrize(("quantization", "asked"), [("nf4", True), ("none", False)])
def test_the_base_of_a_model_that_was_trained_in_sixteen_bits_is_scored_once(
    monkeypatch: pytest.MonkeyPatch, quantization: str, asked: bool
) -> None:
    process, calls = ScoringProcess(), []
    monkeypatch.setattr(process, "_run", lambda *words: calls.append(words) or FormAnswers())
    facts: Any = SimpleNamespace(method="lora", identity=SimpleNamespace(quantization=quantization, dtype="bfloat16"))
    process.others(FormJob(Path(), {}, Path(), ""), FormAnswers({"trained": {}}), facts, with_base=True)
    assert calls[0][-1] is asked


@pytest.mark.parametrize("heard", [True, False])
def test_the_fresh_process_says_how_far_it_is_where_its_parent_is_heard(
    heard: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe: Any = None

    def work() -> None:
        scoring_process._prepare(pipe, heard)
        pace.Pace("scoring facts", 2, "items", clock=lambda: 0.0).advance()

    monkeypatch.setattr(scoring_process, "exit_with_parent", lambda _: None)
    monkeypatch.setattr(pace, "QUIET_SECONDS", 0.0)
    copy_context().run(work)
    assert capsys.readouterr().out == ("  scoring facts: 1 of 2 items, about 0.0 s left\n" if heard else "")
