"""An entry as it was read, with what a comparison may look up later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.entries import Entry

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Source:
    """Where a task's answers lie, and which base's answers they are held against.

    Args:
        folder: In the run's artifacts: samples, or samples/locked.
    """

    run_id: str
    artifact_uri: str
    folder: str
    base: str
    base_revision: str
    quantization: str | None
    is_bare: bool = False
    is_kept_base: bool = False


@dataclass(frozen=True)
class Reading:
    """One entry, with what a comparison may look up later.

    Args:
        sources: By task.
        settings: The params that make its configuration, by short key: {"adapter.rank": "16"}.
        experiment_id: For a link.
        models: MLflow's ids of the models that the run logged.
        evaluated: The logged model that an evaluation scored.
        named: Whether it was asked for by its id or version.
        power: Curves of the power that it drew, in watts: one a GPU, where MLflow could read it.
        imported: The whole run of an import, which may be asked for another of its metrics.
    """

    entry: Entry
    sources: Mapping[str, Source]
    settings: Mapping[str, str]
    experiment_id: str
    models: tuple[str, ...] = ()
    evaluated: str = ""
    named: bool = False
    power: tuple[str, ...] = ()
    imported: Run | None = None


@dataclass(frozen=True)
class Readings:
    """What was found: the latest run of each configuration, seed and way of asking, and how many stand behind them."""

    readings: tuple[Reading, ...]
    runs: int
    notes: tuple[str, ...] = ()
