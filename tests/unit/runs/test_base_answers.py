"""The base answers the prompts of a project once; later runs find its answers in the run that had them written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runs.test_base_fit import PROJECT, REPORT

from tunery.config.load import project_from
from tunery.evaluation import generate as generation
from tunery.records.rows import Conversation, Message, PreparedData
from tunery.records.runs import Generation
from tunery.runs.base_answers import base_answers
from tunery.runs.cache import Loaded, Resident
from tunery.tracking.run import open_run
from tunery.tracking.store import Store


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    project = project_from({**PROJECT, "evaluation": {"generation": {"prompts": 2, "max_new_tokens": 4}}}, "p", Path())
    base = Resident().base(project)
    tasks: Any = None
    return Loaded(project, base, tasks, base.model, PreparedData([], [], asked("Who?", "Where?"), REPORT))


def asked(*questions: str) -> list[Conversation]:
    return [Conversation((Message("user", one), Message("assistant", "Here.")), one) for one in questions]


def answered(loaded: Loaded, store: Store, kept: list[str] | None = None) -> list[str]:
    """The base's answers in a run that ends well and keeps these, by default as they are."""
    with open_run(store, "train", "quickstart") as tracker:
        written = base_answers(loaded, tracker)
        tracker.log_generations([Generation("?", "!", one, "") for one in kept or written])
    return written


def test_a_second_run_of_the_same_base_and_prompts_finds_them(
    loaded: Loaded, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answered(loaded, store)
    assert len(first) == 2
    never_written(monkeypatch)
    assert answered(loaded, store) == first


@pytest.mark.parametrize("setting", ["max_new_tokens", "prompts", "question"])
def test_other_prompts_or_longer_answers_are_written(
    loaded: Loaded, store: Store, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    answered(loaded, store)
    never_written(monkeypatch)
    evaluation = loaded.project.evaluation
    changed = {"max_new_tokens": {"max_new_tokens": 5}, "prompts": {"prompts": 1}, "question": {}}[setting]
    other = evaluation.model_copy(update={"generation": evaluation.generation.model_copy(update=changed)})
    data = (
        replace(loaded.rows, validation_conversations=asked("Who?", "When?")) if setting == "question" else loaded.data
    )
    with pytest.raises(ZeroDivisionError):
        answered(replace(loaded, project=loaded.project.model_copy(update={"evaluation": other}), data=data), store)


def test_answers_that_the_store_does_not_keep_as_written_are_written_again(
    loaded: Loaded, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redacted, or of a table that somebody changed."""
    answered(loaded, store, kept=["[redacted]", "Here."])
    never_written(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        answered(loaded, store)


def test_a_run_that_did_not_finish_lends_nothing(loaded: Loaded, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        with open_run(store, "train", "quickstart") as tracker:
            base_answers(loaded, tracker)
            raise RuntimeError("before the answers were logged")

    with pytest.raises(RuntimeError):
        stopped()
    never_written(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        answered(loaded, store)


def test_a_project_without_validation_rows_asks_nothing(loaded: Loaded, store: Store) -> None:
    assert answered(replace(loaded, data=replace(loaded.rows, validation_conversations=[])), store) == []


def never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> Any:
        raise ZeroDivisionError("the base writes")

    monkeypatch.setattr(generation, "generate", refuse)
