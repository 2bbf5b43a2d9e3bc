"""A small project in a temporary folder with a store of its own, and the command line to run on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import in_process
from tests.integration.in_process import Outcome
from tests.integration.servers import mlflow_server
from tunery.promotion import scoring_process

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A working folder with a project in it; commands run there as a user would run them."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def project(self, **sections: Settings | str) -> Path:
        """Write project.yaml: the smallest that trains in seconds, with sections laid over it."""
        tree: dict[str, Any] = {
            "name": "small",
            "base": {"model": "builtin:tiny", "quantization": "none"},
            "adapter": {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]},
            "data": {"train": [{"source": "rows.jsonl"}], "max_length": 128},
            "training": {"max_steps": 4, "micro_batch_size": 2, "gradient_accumulation_steps": 1, "checkpoints": 2},
            "evaluation": {"tasks": ["world_facts"], "limit": 8, "generation": {"prompts": 2, "max_new_tokens": 8}},
        }
        for name, section in sections.items():
            tree[name] = {**tree.get(name, {}), **section} if isinstance(section, Mapping) else section
        file = self.folder / "project.yaml"
        file.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return file

    def rows(self, count: int = 24, name: str = "rows.jsonl") -> Path:
        """Write conversations: a question and a short answer each."""
        file = self.folder / name
        lines = [
            json.dumps({"prompt": f"What comes after {n}?", "completion": f"It is {n + 1}."}) for n in range(count)
        ]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def adapter(self, name: str, settings: Mapping[str, str] | None = None) -> str:
        """Write an adapter of the project's shape to train on, its weights drawn: B at 0 would add nothing."""
        import torch

        from tunery.config.load import load_project
        from tunery.models.adapter import attach_adapter
        from tunery.models.adapter_files import save_adapter
        from tunery.runs.cache import Resident

        project = load_project(self.folder, list((settings or {}).items()))
        model = attach_adapter(Resident().base(project), project.adapter, seed=5).model
        torch.manual_seed(5)
        for weight in (one for one in model.parameters() if one.requires_grad):
            torch.nn.init.normal_(weight, std=0.05)
        save_adapter(model, self.folder / name)
        return name

    def environment(self, **extra: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        return {**clean, "TUNERY_HOME": str(self.folder / "home"), "HF_HUB_OFFLINE": "1", **extra}

    def tunery(self, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run `tunery` as its command line does, without the seconds that a process needs for its imports."""
        return in_process.tunery(words, self.folder, self.environment(**(env or {})))

    def process(self, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run `tunery` in a process of its own."""
        return run([sys.executable, "-m", "tunery", *words], self.folder, self.environment(**(env or {})))


def run(words: Sequence[str], folder: Path, env: Mapping[str, str]) -> Outcome:
    done = subprocess.run(words, cwd=folder, env=dict(env), capture_output=True, text=True, check=False, timeout=300)
    return Outcome(done.returncode, done.stdout, done.stderr)


MakePlace = Callable[[str], Place]


@pytest.fixture(scope="session", autouse=True)
def _libraries() -> Iterator[None]:
    """Imported before any model is loaded, which must stay collectable; what scores a candidate forks from `warm`."""
    import_module("tests.integration.libraries")
    import_module("tests.integration.warm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_process, "_START", "forkserver")
        yield


@pytest.fixture(scope="session")
def make_place(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> MakePlace:
    """A place with rows, the smallest project and an empty store, for a module to train in."""

    def make(name: str) -> Place:
        made = _bare(tmp_path_factory.mktemp(name))
        shutil.copy2(fresh_database, made.folder / "mlflow.db")
        return made

    return make


@pytest.fixture
def place(tmp_path: Path, fresh_database: Path) -> Place:
    """A place with rows, the smallest project and an empty store."""
    shutil.copy2(fresh_database, tmp_path / "mlflow.db")
    return _bare(tmp_path)


@pytest.fixture
def bare_place(tmp_path: Path) -> Place:
    """A place with rows and the smallest project, in which nothing was ever run."""
    return _bare(tmp_path)


def _bare(folder: Path) -> Place:
    made = Place(folder)
    made.rows()
    made.project()
    return made


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on PostgreSQL; each module has experiments and models of its own names there."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="session")
def runs() -> Callable[[Place], list[Any]]:
    """Every run of a place's store, whatever its experiment."""

    def _runs(place: Place) -> list[Any]:
        import mlflow

        if not (place.folder / "mlflow.db").exists():
            return []  # MLflow would make one
        client = mlflow.MlflowClient(tracking_uri=place.uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments))

    return _runs
