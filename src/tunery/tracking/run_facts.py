"""What MLflow knows of a run, for those who show it elsewhere or go on from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunery.tracking.places import local_place
from tunery.tracking.registry import ModelRef
from tunery.tracking.run import PROJECT
from tunery.tracking.store import Store


@dataclass(frozen=True)
class RunFacts:
    """A run as it was logged; everything may be empty: a model can be logged without a run.

    Args:
        metrics: The last value of each.
        config, data: The resolved project, and data/report.json.
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
    run = store.found(store.client.get_run, run_id) if run_id else None
    if run is None or run_id is None:
        return RunFacts(None)
    return RunFacts(
        run_id=run_id,
        metrics=run.data.metrics,
        tags=run.data.tags,
        config=run_config(store, run_id) or {},
        data=json.loads(_text(store, run_id, "data/report.json") or "{}"),
        answers=generations(store, run_id),
    )


def generations(store: Store, run_id: str) -> tuple[Mapping[str, str], ...]:
    """Rows of a run's generations.json: prompt, reference, base, tuned; none if it keeps none, or a damaged one."""
    try:
        table = json.loads(_text(store, run_id, "generations.json") or "{}")
        return tuple(dict(zip(table.get("columns", ()), row, strict=True)) for row in table.get("data", ()))
    except (ValueError, TypeError, AttributeError):
        return ()


def run_config(store: Store, run_id: str) -> dict[str, Any] | None:
    """The resolved project that a run was made with (its config/project.yaml); None if the run keeps none."""
    import yaml

    tree = yaml.safe_load(_text(store, run_id, "config/project.yaml") or "")
    return tree if isinstance(tree, dict) else None


def project_folder(store: Store, run_id: str) -> Path | None:
    """Folder of the project that a run was made with; None if the run does not say, or it is not on this machine."""
    run = store.found(store.client.get_run, run_id)
    named = run.data.tags.get("tunery.project_folder") if run else None
    return Path(named) if named and Path(named).is_dir() else None


def project_of(store: Store, ref: ModelRef) -> str:
    """The project that a logged model belongs to: what its run says, else the name that it is registered under."""
    run = store.found(store.client.get_run, ref.run_id) if ref.run_id else None
    return (run.data.tags.get(PROJECT) if run else None) or ref.name or store.experiment


@contextmanager
def artifact(store: Store, run_id: str, artifact_uri: str, name: str) -> Iterator[Path]:
    """A run's file: in its own place if that is a folder of this machine, else a copy that is removed.

    Raises:
        OSError: If a remote artifact store does not have the file, or does not answer.
    """
    from mlflow.exceptions import MlflowException

    place = local_place(artifact_uri)
    if place is not None:
        yield place / name
        return
    with TemporaryDirectory(prefix="tunery-artifact-") as folder:
        try:
            path = Path(store.client.download_artifacts(run_id, name, folder))
        except MlflowException as error:
            raise FileNotFoundError(f"{artifact_uri}/{name}: {error}") from error
        yield path


def _text(store: Store, run_id: str, name: str) -> str | None:
    """A text that the run keeps as an artifact; None if it keeps none."""
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory(prefix="tunery-facts-") as place:
        try:
            return Path(store.client.download_artifacts(run_id, name, place)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            return None
