"""The quickstart teaches something, whatever the seed: one here, and two in test_tour."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.config.load import load_project
from tunery.runs.observer import Observer
from tunery.runs.train import train
from tunery.statistics.paired import compare_tasks

PROJECTS = Path(__file__).parents[2] / "projects" / "quickstart"
OTHER = {"world_facts": "world_comparison", "world_comparison": "world_facts"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('quickstart')}/mlflow.db"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])
@pytest.mark.parametrize(("file", "task"), [("project.yaml", "world_facts"), ("comparison.yaml", "world_comparison")])
def test_the_gain_is_large_and_no_accident(uri: str, file: str, task: str, seed: int) -> None:
    project = load_project(PROJECTS / file, [("training.seed", str(seed))])
    record = train(project, Observer(), tracking_uri=uri)
    direct, other = compare_tasks(record.base, record.tuned, {task: "acc", OTHER[task]: "acc"})
    assert direct.items >= 400
    assert direct.delta >= 0.25
    assert direct.difference.p_value < 0.001
    assert other.delta < direct.delta / 2, "one dataset solves the other's task"
