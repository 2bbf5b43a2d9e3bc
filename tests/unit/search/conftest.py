"""Projects with a space, made from YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from tunery.config.load import load_project
from tunery.config.project import Project
from tunery.search.study.study import enqueue_search_trials

MakeProject = Callable[..., Project]

_PROJECT = """
name: x
base: {model: 'builtin:tiny', quantization: none}
data: {train: [{source: a.jsonl}, {source: b.jsonl}]}
adapter: {rank: 16, alpha: 32}
training: {learning_rate: 2.0e-4, epochs: 1, score_checkpoints: true}
evaluation: {tasks: [world_facts, world_comparison]}
"""


@pytest.fixture
def make(tmp_path: Path) -> MakeProject:
    """A project whose space is the given YAML; further keywords are keys, with __ for dots, and YAML values."""

    def _make(space: str = "{}", **keys: str) -> Project:
        (tmp_path / "project.yaml").write_text(_PROJECT, encoding="utf-8")
        overrides = [("search.space", space), *((key.replace("__", "."), value) for key, value in keys.items())]
        return load_project(tmp_path, overrides)

    return _make


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def enqueue(study: optuna.Study, project: Project, count: int) -> None:
    """Queue a study's trials; the first has the project's own settings."""
    enqueue_search_trials(study, project, [], count)
