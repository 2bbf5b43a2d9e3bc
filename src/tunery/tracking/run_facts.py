"""What MLflow knows of a finished run, for those who show it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunery.tracking.registry import ModelRef, run_config
from tunery.tracking.run import PROJECT
from tunery.tracking.store import Store


@dataclass(frozen=True)
class RunFacts:
    """A run as it was logged; everything may be empty: a model can be logged without a run.

    Args:
        metrics: The last value of each.
        tags: Without MLflow's own.
        config: The resolved project.
        data: data/report.json.
        answers: Rows of generations.json: prompt, reference, base, tuned.
    """

    run_id: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[Mapping[str, str], ...] = ()


def read_run(store: Store, run_id: str | None) -> RunFacts:
    """What a run was told; nothing for a run that is not there."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return RunFacts(None)
    try:
        run = store.client.get_run(run_id)
    except MlflowException:
        return RunFacts(None)
    table = _json(store, run_id, "generations.json")
    return RunFacts(
        run_id=run_id,
        metrics=run.data.metrics,
        tags=run.data.tags,
        config=run_config(store, run_id) or {},
        data=_json(store, run_id, "data/report.json"),
        answers=tuple(dict(zip(table.get("columns", ()), row, strict=True)) for row in table.get("data", ())),
    )


def project_of(store: Store, ref: ModelRef) -> str:
    """The project that a logged model belongs to: what its run says, else the name that it is registered under."""
    from mlflow.exceptions import MlflowException

    try:
        tags = store.client.get_run(ref.run_id).data.tags if ref.run_id else {}
    except MlflowException:
        tags = {}
    return tags.get(PROJECT) or ref.name or store.experiment


def _json(store: Store, run_id: str, name: str) -> dict[str, Any]:
    """A mapping that the run keeps as an artifact; empty where it keeps none."""
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory(prefix="tunery-facts-") as place:
        try:
            file = Path(store.client.download_artifacts(run_id, name, place))
        except (MlflowException, OSError):
            return {}
        tree = json.loads(file.read_text(encoding="utf-8"))
    return tree if isinstance(tree, dict) else {}
