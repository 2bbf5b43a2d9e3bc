"""The base's score is looked up only where it is the score of the same question, asked in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Place
from tunery.config.load import load_project
from tunery.evaluation import score
from tunery.evaluation.tasks import load_tasks
from tunery.models.base import LoadedBase, load_base
from tunery.records.scores import TaskResult
from tunery.runs.scoring import base_results
from tunery.tracking.base_scores import StoredScores
from tunery.tracking.store import Store, connect

GROUP = """group: isles
task: [world_facts, world_comparison]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def base() -> LoadedBase:
    from tunery.config.model import BaseConfig

    return load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path.cwd(), "cpu")


class Counted:
    """Counts how often a model is really scored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        original = score.score_model

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.times += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(score, "score_model", counted)


@pytest.fixture
def store(place: Place, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    return connect(place.uri, "small")


def results(place: Place, store: Store, base: LoadedBase, *overrides: tuple[str, str]) -> dict[str, TaskResult]:
    project = load_project(place.folder, overrides)
    tasks = load_tasks(project.evaluation, project.folder, chat_template=True)
    return dict(base_results(StoredScores(store), base, tasks, project.evaluation))


def test_the_same_question_is_answered_once(
    place: Place, store: Store, base: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    first, again = (results(place, store, base) for _ in range(2))
    assert counted.times == 1
    assert first["world_facts"].scores == again["world_facts"].scores


@pytest.mark.parametrize(("key", "value"), [("evaluation.limit", "9"), ("evaluation.few_shot", "1")])
def test_another_question_is_not_taken_for_it(
    place: Place, store: Store, base: LoadedBase, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    counted = Counted(monkeypatch)
    results(place, store, base)
    results(place, store, base, (key, value))
    assert counted.times == 2


def test_a_kept_result_takes_this_projects_split_and_metric(place: Place, store: Store, base: LoadedBase) -> None:
    results(place, store, base)
    found = results(
        place, store, base, ("evaluation.dev_fraction", "1.0"), ("evaluation.primary", "{world_facts: acc_norm}")
    )
    result = found["world_facts"]
    assert set(result.samples["split"]) == {"dev"}
    assert result.primary == "acc_norm"


def test_only_the_missing_part_of_a_group_is_scored(place: Place, store: Store, base: LoadedBase) -> None:
    (place.folder / "isles.yaml").write_text(GROUP)
    alone = results(place, store, base)
    group = results(place, store, base, ("evaluation.tasks", "[isles]"), ("evaluation.task_folders", "['.']"))
    assert {"isles", "world_facts", "world_comparison"} <= set(group)
    assert group["world_facts"].scores == alone["world_facts"].scores
