"""When a kept base score may be used again: never after anything that decides it has changed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.config.evaluation import EvaluationConfig
from tunery.evaluation.samples import items_digest
from tunery.records.runs import BaseIdentity
from tunery.records.scores import TaskResult, TaskSettings
from tunery.runs import scoring
from tunery.runs.scoring import base_key, parent_scores
from tunery.tracking import base_scores
from tunery.tracking.run import open_run
from tunery.tracking.store import Store

IDENTITY = BaseIdentity("base", "sha256:ab", "nf4", "float32", "float32", "own")
COMMIT = BaseIdentity("builtin:tiny", "abc", "nf4", "float32", "float32", "own")
SETTINGS = TaskSettings("colours", "1.0", 0, None, True)


@pytest.mark.parametrize("detail", ["template_sha256", "double_quantization", "offloaded"])
def test_details_that_decide_a_score_are_part_of_its_key(detail: str) -> None:
    keys = {base_key(dataclasses.replace(IDENTITY, details={detail: value}), SETTINGS) for value in ("a", "b")}
    assert len(keys) == 2


def test_a_folder_has_the_same_key_under_every_name() -> None:
    elsewhere = dataclasses.replace(IDENTITY, model="/models/base")
    assert base_key(elsewhere, SETTINGS) == base_key(IDENTITY, SETTINGS)


def test_a_hub_models_name_is_part_of_its_key() -> None:
    commit = dataclasses.replace(IDENTITY, revision="c0ffee")
    assert base_key(dataclasses.replace(commit, model="someone/else"), SETTINGS) != base_key(commit, SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "def"},
        {"quantization": "none"},
        {"dtype": "bfloat16"},
        {"compute_dtype": "bfloat16"},
        {"chat_template": "added ChatML"},
    ],
)
def test_another_base_has_another_key(change: dict[str, str]) -> None:
    assert base_key(dataclasses.replace(COMMIT, **change), SETTINGS) != base_key(COMMIT, SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"version": "1.1"},
        {"few_shot": 5},
        {"limit": 10},
        {"chat_template": False},
        {"wording": "ab"},
    ],
)
def test_other_task_settings_have_another_key(change: dict[str, Any]) -> None:
    assert base_key(COMMIT, dataclasses.replace(SETTINGS, **change)) != base_key(COMMIT, SETTINGS)


def test_the_key_is_stable_over_releases_and_ignores_what_decides_nothing() -> None:
    described = dataclasses.replace(COMMIT, license="apache-2.0", details={"parameters": 2_000_000})
    assert base_key(described, SETTINGS) == base_key(COMMIT, SETTINGS) == "2b8b16806349b79d"


class Tasks(SimpleNamespace):
    """One task of four items."""

    def only(self, names: list[str]) -> Tasks:
        return self


@pytest.fixture
def loaded(make_result: Any) -> Any:
    """A base with an adapter on it, which training begins with."""
    result = make_result()
    tasks = Tasks(
        names=("quiz",),
        settings={"quiz": result.settings},
        primary={"quiz": "acc"},
        members={},
        leaves={"quiz": SimpleNamespace(item_ids=list(result.samples["item_id"]))},
        looked_up={},
    )
    start = SimpleNamespace(named="models:/x/3", digest="sha256:ab", identity=COMMIT, model_id="m-1", run_id=None)
    project = SimpleNamespace(evaluation=EvaluationConfig(tasks=["quiz"]))
    return SimpleNamespace(start=start, tasks=tasks, project=project, base=SimpleNamespace(identity=COMMIT))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, make_result: Any) -> list[str]:
    """What was scored; nothing of it is real."""
    done: list[str] = []

    def own_scores(loaded: Any) -> dict[str, TaskResult]:
        done.append(loaded.start.named)
        return {"quiz": make_result()}

    monkeypatch.setattr(scoring, "own_scores", own_scores)
    monkeypatch.setattr(
        scoring,
        "replace",
        lambda loaded, **changes: (
            SimpleNamespace(**{**vars(loaded), **changes})
            if isinstance(loaded, SimpleNamespace)
            else dataclasses.replace(loaded, **changes)
        ),
    )
    return done


def test_what_training_begins_with_is_scored_once_and_looked_up_then(
    loaded: Any, store: Store, scored: list[str]
) -> None:
    first, again = parent_scores(loaded, store), parent_scores(loaded, store)
    assert scored == ["models:/x/3"]
    assert first["quiz"].scores["acc"].value == again["quiz"].scores["acc"].value == 0.5
    (run,) = store.client.search_runs([store.experiment_id("tunery-base-scores")])
    assert (run.data.tags["tunery.kind"], run.data.tags["tunery.start"]) == ("parent", "models:/x/3")
    loaded.start.digest = "sha256:cd"
    parent_scores(loaded, store)
    assert len(scored) == 2, "other weights have other scores"
    loaded.start = None
    assert parent_scores(loaded, store) == {}


def test_the_trials_of_a_worker_read_a_kept_score_once(
    loaded: Any, store: Store, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = parent_scores(loaded, store)
    asked: list[str] = []
    find = base_scores.find
    monkeypatch.setattr(base_scores, "find", lambda store, key: asked.append(key) or find(store, key))
    found = [parent_scores(loaded, store) for _ in range(3)]
    assert len(asked) == 1
    assert [one["quiz"].scores for one in found] == [first["quiz"].scores] * 3
    assert len(scored) == 1


@pytest.mark.parametrize(
    ("change", "times"),
    [({}, 0), ({"identity": dataclasses.replace(COMMIT, dtype="bfloat16")}, 1), ({"model_id": None}, 1)],
)
def test_what_its_own_run_recorded_under_the_same_conditions_is_taken(
    loaded: Any, store: Store, scored: list[str], make_result: Any, change: dict[str, Any], times: int
) -> None:
    result = make_result(values=(1.0, 1.0, 1.0, 0.0))
    with open_run(store, "train", "x") as tracker:
        tracker.log_scores({}, {"quiz": result})
        tracker.log_tasks({"quiz": result}, asked={"quiz": "acc"}, counted=["quiz"], split="all")
        tracker.log_samples({"quiz": result})
    loaded.start = SimpleNamespace(**{**vars(loaded.start), "run_id": tracker.run_id, **change})
    found = parent_scores(loaded, store)["quiz"]
    assert len(scored) == times
    assert found.scores["acc"].value == (0.5 if times else 0.75)
    if not times:
        assert found.scores["acc"].stderr == 0.25
        assert items_digest(found.samples["item_id"]) == items_digest(result.samples["item_id"])
        assert set(found.samples["split"]) <= {"dev", "locked"}
        loaded.tasks.leaves["quiz"].item_ids.append("another")
        parent_scores(loaded, store)
        assert len(scored) == 1, "other items have other scores"
