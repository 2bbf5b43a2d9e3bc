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

from tunery.errors import OutOfMemory, TrackingError
from tunery.promotion import scoring_process
from tunery.promotion.measure import _joined
from tunery.promotion.scoring_process import FormAnswers, FormJob, ScoringProcess
from tunery.records.runs import BaseIdentity
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.reporting import pace

PRIMARY = {"quiz": "acc"}
IDENTITY = BaseIdentity("acme/base", "c0ffee", "none", "float32", "float32", "own", None)


def result(values: list[float], logs: list[list[float]]) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(values))], "acc": values, "loglikelihoods": logs})
    mean = sum(values) / len(values)
    return TaskResult(
        TaskSettings("quiz", "1", 0, None, True), {"acc": Score("quiz", "acc", mean, None, len(values))}, samples
    )


class Shelf:
    """Keeps results in memory; a key that begins with "broken" cannot be looked up."""

    def __init__(self) -> None:
        self.results: dict[str, TaskResult] = {}

    def find(self, key: str) -> TaskResult | None:
        if key.startswith("broken"):
            raise TrackingError("mlflow.db", "cannot be read")
        return self.results.get(key)

    def keep(self, key: str, identity: BaseIdentity, result: TaskResult, start: str | None = None) -> None:
        self.results[key] = result


def looked_up(key: str) -> FormAnswers:
    """Keeps a result under a new key, and answers with what is kept under it now; run in the other process."""
    (scores,) = scoring_process._asking
    before = scores.find(key)
    if before is None:
        scores.keep(key, IDENTITY, result([1.0, 0.0], [[-1.0], [-2.0]]))
    kept = scores.find(key)
    assert kept is not None
    return FormAnswers(base={"new" if before is None else "found": kept})


def test_the_base_s_scores_are_found_and_kept_by_the_process_that_decides() -> None:
    shelf = Shelf()
    with ScoringProcess(shelf) as process:
        first, second = (process._run(("trained",), looked_up, "key").base for _ in range(2))
    pd.testing.assert_frame_equal(first["new"].samples, result([1.0, 0.0], [[-1.0], [-2.0]]).samples)
    assert second["found"].scores == first["new"].scores == shelf.results["key"].scores


def test_a_store_that_cannot_be_read_ends_the_scoring_with_its_own_fault() -> None:
    with pytest.raises(TrackingError, match="cannot be read"), ScoringProcess(Shelf()) as process:
        process._run(("trained",), looked_up, "broken key")


def test_a_process_that_dies_loses_only_the_form_it_was_scoring() -> None:
    with ScoringProcess(Shelf()) as process:
        died = process._run(("adapter", "merged"), os._exit, 9)  # type: ignore[arg-type]
        assert set(died.faults) == {"adapter", "merged"}
        assert "killed" in died.faults["merged"]
        assert process._run(("trained",), FormAnswers) == FormAnswers()


def test_an_interrupted_scoring_is_not_waited_for() -> None:
    def interrupted() -> None:
        with ScoringProcess(Shelf()) as process:
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
    job = FormJob(Path(), {}, Path())
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
    answers = scoring_process.score_unquantised(FormJob(Path(), {}, Path()), ("adapter", "merged"), with_base=True)
    assert (answers.results, set(answers.faults)) == ({}, {"adapter", "merged"})


@pytest.mark.parametrize(("quantization", "asked"), [("nf4", True), ("none", False)])
def test_the_base_of_a_model_that_was_trained_in_sixteen_bits_is_scored_once(
    monkeypatch: pytest.MonkeyPatch, quantization: str, asked: bool
) -> None:
    process, calls = ScoringProcess(Shelf()), []
    monkeypatch.setattr(process, "_run", lambda *words: calls.append(words) or FormAnswers())
    facts: Any = SimpleNamespace(method="lora", identity=SimpleNamespace(quantization=quantization, dtype="bfloat16"))
    process.others(FormJob(Path(), {}, Path()), FormAnswers({"trained": {}}), facts, with_base=True)
    assert calls[0][-1] is asked


@pytest.mark.parametrize("heard", [True, False])
def test_the_fresh_process_says_how_far_it_is_where_its_parent_is_heard(
    heard: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe: Any = None

    def work() -> None:
        scoring_process._prepare(pipe, pipe, heard)
        pace.Pace("scoring facts", 2, "items", clock=lambda: 0.0).advance()

    monkeypatch.setattr(scoring_process, "exit_with_parent", lambda _: None)
    monkeypatch.setattr(pace, "QUIET_SECONDS", 0.0)
    copy_context().run(work)
    assert capsys.readouterr().out == ("  scoring facts: 1 of 2 items, about 0.0 s left\n" if heard else "")
