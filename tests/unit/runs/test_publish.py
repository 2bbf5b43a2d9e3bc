from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tunery.records.runs import BaseIdentity, RunRecord
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.runs import publish


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What publishing did, in order; nothing of it is real."""
    steps: list[str] = []

    def note(name: str, result: Any = None) -> Any:
        return lambda *_args, **_options: (steps.append(name), result)[1]

    for name in ("log_scores", "log_answers", "log_plots"):
        monkeypatch.setattr(publish, name, note(name))
    monkeypatch.setattr(publish, "finish", lambda record, _tracker: steps.append(f"report of {record.model_version}"))
    monkeypatch.setattr("tunery.tracking.registry.register", note("register", 1))
    monkeypatch.setattr("tunery.runs.report.tables.run_table", note("table"))
    return steps


def published(said: list[str] | None = None) -> RunRecord:
    nothing: Any = lambda *_args: None  # noqa: E731
    project: Any = SimpleNamespace(name="small", folder=Path())
    logged: Any = SimpleNamespace(model_id="m-1")
    tracker: Any = SimpleNamespace(
        flush=nothing,
        run_id="abc",
        experiment_id="1",
        store=SimpleNamespace(uri="sqlite:///m.db"),
    )
    observer: Any = SimpleNamespace(show=nothing, step=nothing if said is None else said.append)
    identity = BaseIdentity("acme/base", "c0ffee", "none", "float32", "float32", "own")
    record = RunRecord(
        run_id="abc", project="small", identity=identity,
        adapter=None, data=None, trained=None, base={}, tuned={}, primary={},
    )  # fmt: skip
    return publish.publish(project, record, [], logged, tracker, observer)


def test_a_version_is_registered_after_all_else_and_the_report_names_it(done: list[str]) -> None:
    assert published().model_version == "small/1"
    assert done[-4:] == ["report of None", "register", "report of small/1", "table"]


def test_a_training_ends_with_the_places_of_what_it_made_and_the_next_verbs(done: list[str]) -> None:
    said: list[str] = []
    published(said)
    page = "http://127.0.0.1:5000/#/experiments/1/runs/abc?workflowType=machine_learning"
    assert said == [
        "registered as models:/small/1",
        "kept as run abc, with the report in report.md",
        f"its page: mlflow ui --backend-store-uri sqlite:///m.db, then {page}",
        "next: tunery chat models:/small/1, or tunery compare --project small",
    ]


def test_a_report_that_cannot_be_written_leaves_no_version(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(publish, "finish", broken)
    with pytest.raises(ZeroDivisionError):
        published()
    assert "register" not in done


def test_scores_on_locked_items_are_logged_with_their_errors() -> None:
    logged: dict[str, float] = {}
    tracker: Any = SimpleNamespace(log_metrics=logged.update)
    scores = {"acc": Score("quiz", "acc", 0.5, 0.1, 4), "ppl": Score("quiz", "ppl", 9.0, None, 4)}
    publish._log_locked({"quiz": TaskResult(TaskSettings("quiz", "1", 0, None, True), scores, pd.DataFrame())}, tracker)
    assert logged == {"locked/quiz/acc": 0.5, "locked/quiz/acc_stderr": 0.1, "locked/quiz/ppl": 9.0}


def test_the_parents_scores_and_the_gain_over_it_are_logged() -> None:
    logged: dict[str, float] = {}
    tracker: Any = SimpleNamespace(log_metrics=logged.update)
    result = TaskResult(
        TaskSettings("quiz", "1", 0, None, True), {"acc": Score("quiz", "acc", 0.5, 0.1, 4)}, pd.DataFrame()
    )
    record: Any = SimpleNamespace(parent={"quiz": result}, shown={"quiz": "acc", "other": "acc"})
    publish._log_parent(record, 0.5, 0.75, tracker)
    assert logged == {"parent/quiz/acc": 0.5, "parent/score": 0.5, "over_parent/score": 0.25}
