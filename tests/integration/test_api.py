"""`import tunery`: the documented examples, run as they are written on a smaller project of the same name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tunery
from tests.integration.conftest import Place
from tunery import api
from tunery.errors import ConfigError, RefError

FACTS = Path(__file__).parents[2] / "projects" / "quickstart" / "data" / "facts.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a small projects/quickstart in it."""
    top = tmp_path_factory.mktemp("notebook")
    place = Place(top / "projects" / "quickstart")
    place.folder.mkdir(parents=True)
    place.project(
        name="quickstart",
        adapter={"rank": 16, "alpha": 32, "target_modules": "all-linear"},
        data={"train": [{"source": str(FACTS), "format": "messages"}]},
        training={"max_steps": 30, "learning_rate": 3.0e-3, "micro_batch_size": 16, "checkpoints": 1},
        evaluation={"limit": 120, "batch_size": 64, "generation": {"prompts": 0}},
        promotion={"min_gain": 0.0},
        search={
            "objectives": {"validation/nll": "minimize"},
            "space": {"training.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True}},
            "finalists": 0,
            "pruner": "none",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNERY_HOME", str(top / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{top}/mlflow.db")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.chdir(top)
        yield top


def example(number: int) -> dict[str, Any]:
    """Run one of the examples at the head of the API's documentation; its variables."""
    code = re.findall(r"```python\n(.*?)```", api.__doc__ or "", re.DOTALL)[number]
    variables: dict[str, Any] = {}
    exec(code, variables)
    return variables


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    return example(0)


@pytest.mark.slow
def test_the_documented_example_trains_compares_promotes_and_goes_back(told: dict[str, Any]) -> None:
    first, again, second = told["first"], told["again"], told["second"]
    assert (first.model_version, second.model_version) == ("quickstart/1", "quickstart/2")
    assert again.tuned["world_facts"].scores == first.tuned["world_facts"].scores
    assert isinstance(told["leaderboard"], pd.DataFrame)
    assert len(told["leaderboard"]) >= 1
    assert told["needed"].memory.total_bytes > 0


@pytest.mark.slow
def test_the_documented_study_gives_a_table_of_trials(folder: Path) -> None:
    variables = example(1)
    assert list(variables["trials"]["state"]) == ["complete", "complete"]
    assert variables["best"].startswith("quickstart/")


def test_values_mean_what_they_are_in_python(folder: Path) -> None:
    given = {"training.learning_rate": 2e-05, "data.train.0.weight": 2, "base.quantization": "none"}
    project = tunery.load_project("projects/quickstart", given)
    assert project.training.learning_rate == 2e-05
    assert project.base.quantization == "none"
    assert tunery.estimate(project, overrides={"adapter.rank": 64}).project.adapter.rank == 64


@pytest.mark.parametrize("overrides", [{"adapter.rnak": 32}, {"adapter.rank": "many"}])
def test_bad_settings_are_exceptions(folder: Path, overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(overrides))):
        tunery.load_project("projects/quickstart", overrides)


def test_a_reference_that_leads_nowhere_is_an_exception(folder: Path) -> None:
    for verb in (tunery.evaluate, tunery.promote):
        with pytest.raises(RefError):
            verb("models:/nothing/1")


def test_importing_tunery_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "mlflow", "lm_eval", "optuna", "pandas", "pydantic"]
    code = f"import sys, tunery; tunery.train; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
