"""Values in the form that MLflow takes, without secrets: names, params, tags, tables, files and dataset inputs."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.evaluation.samples import file_name, items_digest
from tunery.records.rows import DataReport, SourceReport
from tunery.records.scores import TaskResult
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import DatasetInput

# MLflow's limits: longer values are refused by servers, and cut without a word by others.
LONGEST_TAG, _LONGEST_PARAM, _LONGEST_DIGEST, _LONGEST_NAME = 8000, 6000, 36, 500
_TEXT_FILE = re.compile(
    r"\.(txt|md|jsonl?|ya?ml|csv|tsv|html|log|diff|patch|toml|xml|ini|cfg|env|py|sh|jinja)", re.IGNORECASE
)


def entity_name(name: str) -> str:
    """The name with what MLflow does not take in one (a comma in "exact_match,strict-match") made an underscore."""
    return re.sub(r"[^/\w.\- ]", "_", name)


def param_text(value: object, longest: int = _LONGEST_PARAM) -> str:
    """A param as MLflow keeps it: without secrets, and cut where it is too long."""
    # 'null' and 'true' as in project.yaml, not Python's None and True.
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = redact(repr(value) if isinstance(value, float) and math.isfinite(value) else str(value))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def description(markdown: str, *, rest: str, longest: int) -> str:
    """A text as MLflow's pages show it best, cut where it is too long.

    Their tables have no space between two columns ("0.26750.8825"), so that each cell brings some.

    Args:
        rest: Where all of it is, named below a text that was cut.
        longest: In characters.
    """
    spaced = [_spaced(line) if line.startswith("| ") else line for line in markdown.split("\n")]
    text, more = "\n".join(spaced), f"\n\n*The rest is in {rest}.*"
    return text if len(text) <= longest else f"{text[: longest - len(more)]}{more}"


def _spaced(row: str) -> str:
    return row if set(row) <= set("|-: ") else re.sub(r" \|(?!$)", "&emsp;|", row)


def redact_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of the table without secrets in its texts."""
    clean = frame.copy()
    for column in clean.columns:
        if clean[column].dtype.kind not in "biufcmM":  # numbers, truth values and dates hold no text
            clean[column] = redact(list(clean[column]))
    return clean


def write_samples(results: Mapping[str, TaskResult], folder: Path) -> list[Path]:
    """Write <task>.parquet, one row an item, for each task into a folder that is there."""
    paths = [folder / file_name(task) for task in results]
    for path, result in zip(paths, results.values(), strict=True):
        redact_frame(result.samples).to_parquet(path, index=False)
    return paths


def without_secrets(path: Path) -> Path:
    """The path of a file or folder itself, or a copy of it if a text file in it holds a secret."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    copy = None
    for file in files:
        if not _TEXT_FILE.fullmatch(file.suffix):
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        clean = redact(text)
        if clean != text:
            copy = copy or copied(path, Path(tempfile.mkdtemp(prefix="tunery-artifact-")))
            (copy / file.relative_to(path)).write_text(clean, encoding="utf-8")
    return copy or path


def copied(path: Path, folder: Path) -> Path:
    """A copy of a file or folder, under its own name, in a new folder inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(dir=folder)) / path.name
    return Path(shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target))


def data_inputs(report: DataReport) -> list[DatasetInput]:
    """One input a source, with the digest of its content, in the context training or validation."""
    return [
        _input(
            source.role,
            dataset_name(source),
            source.digest,
            *(("local", {"uri": source.source}) if _is_file(source.source) else ("hf", {"path": source.source})),
            {key: getattr(source, key) for key in ("format", "rows_read", "rows_kept", "weight")},
        )
        for source in report.sources
    ]


def evaluation_inputs(results: Mapping[str, TaskResult]) -> list[DatasetInput]:
    """One input a task, with the digest of the items that were scored."""
    return [
        _input(
            "evaluation",
            task,
            items_digest(result.samples["item_id"]),
            "lm_eval",
            {"task": task, "version": result.settings.version},
            {"items": len(result.samples)},
        )
        for task, result in results.items()
    ]


def dataset_name(source: SourceReport) -> str:
    """A file's name without its folders, a hub id as it is."""
    return redact(Path(source.source).name if _is_file(source.source) else source.source)


def _is_file(source: str) -> bool:
    return bool(Path(source).suffix) or source.startswith((".", "/", "~"))


def _input(
    context: str, name: str, digest: str, kind: str, source: dict[str, str], profile: dict[str, Any]
) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=name[:_LONGEST_NAME],
        # "sha256:" tells nothing in a field that holds 36 characters.
        digest=digest.removeprefix("sha256:")[:_LONGEST_DIGEST] or "unknown",
        source_type=kind,
        source=json.dumps(redact(source)),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
