"""Sources and items -> MLflow's dataset inputs, the lineage that its UI shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.evaluation.samples import items_digest
from tunery.records import DataReport, SourceReport, TaskResult
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_LONGEST_DIGEST, _LONGEST_NAME = 36, 500


def training_inputs(report: DataReport) -> list[DatasetInput]:
    """One input a source, with the digest of its content."""
    return [
        _input(dataset_name(source), source.digest, _place(source), _profile(source), "training")
        for source in report.sources
    ]


def evaluation_inputs(results: Mapping[str, TaskResult]) -> list[DatasetInput]:
    """One input a task, with the digest of the items that were scored."""
    return [
        _input(
            task,
            items_digest(result.samples["item_id"]),
            {"task": task, "version": result.settings.version},
            {"items": len(result.samples)},
            "evaluation",
        )
        for task, result in results.items()
    ]


def dataset_name(source: SourceReport) -> str:
    """A file's name without its folders, a hub id as it is."""
    place = source.source
    return str(redact(Path(place).name if Path(place).suffix or place.startswith((".", "/", "~")) else place))


def _input(name: str, digest: str, source: dict[str, str], profile: dict[str, object], context: str) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=name[:_LONGEST_NAME],
        # "sha256:" tells nothing in a field that holds 36 characters.
        digest=digest.removeprefix("sha256:")[:_LONGEST_DIGEST] or "unknown",
        source_type="local" if "uri" in source else "hf" if "path" in source else "lm_eval",
        source=json.dumps(redact(source)),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _place(source: SourceReport) -> dict[str, str]:
    is_file = Path(source.source).suffix or source.source.startswith((".", "/", "~"))
    return {"uri" if is_file else "path": source.source}


def _profile(source: SourceReport) -> dict[str, object]:
    return {
        "format": source.format,
        "rows_read": source.rows_read,
        "rows_kept": source.rows_kept,
        "weight": source.weight,
    }
