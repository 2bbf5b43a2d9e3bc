from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tunery.records.runs import BaseIdentity
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.tracking.store import Store, connect

MakeResult = Callable[..., TaskResult]


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """statsmodels collects garbage at every correction: among all that other tests have loaded, a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def store(fresh_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    shutil.copy2(fresh_database, tmp_path / "mlflow.db")
    return connect(f"sqlite:///{tmp_path}/mlflow.db", "quickstart")


@pytest.fixture
def identity() -> BaseIdentity:
    return BaseIdentity("acme/base", "c0ffee", "nf4", "bfloat16", "bfloat16", "own")


@pytest.fixture
def make_result() -> MakeResult:
    def make(task: str = "quiz", values: tuple[float, ...] = (0.0, 1.0, 1.0, 0.0), first: int = 0) -> TaskResult:
        items = [f"item{first + number}" for number in range(len(values))]
        samples = pd.DataFrame(
            {
                "item_id": items,
                "split": "dev",
                "prediction": "A",
                "acc": values,
                "loglikelihoods": [[-1.0, -2.0]] * len(values),
            }
        )
        score = Score(task, "acc", sum(values) / len(values), 0.25, len(values))
        return TaskResult(TaskSettings(task, "1.0", 0, None, True), {"acc": score}, samples, "acc")

    return make
