"""Finding a source and reading its rows: a file, a folder saved by `datasets`, or a hub dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.data import DataConfig, RowSource, SourceConfig
from tunery.data.prompt_template import check_template
from tunery.data.reading.as_written import rows_as_written
from tunery.data.reading.hub import asked_once
from tunery.data.reading.readers import read_csv, read_json, read_jsonl, read_parquet
from tunery.data.reading.rows import Numbered, Rows, collect
from tunery.data.reading.spreadsheet import read_xlsx
from tunery.errors import DataError, Fault

if TYPE_CHECKING:
    from datasets import Dataset

FILE_TYPES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".xlsx", ".xlsm")
# Endings that are surely files, so that a missing one is not looked for on the Hub, where ids may hold dots.
_OTHER_FILES = (".txt", ".xls", ".ods", ".arrow", ".gz", ".zip", ".yaml", ".yml", ".md", ".pkl", ".db")
_SPREADSHEETS = (".xlsx", ".xlsm")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_Read = tuple[str, Iterable[Numbered], str]
"""What origins begin with, the rows, and a digest of them."""


def load_rows(source: RowSource, folder: Path, places: Sequence[str] = ()) -> Rows:
    """Read every row of a source.

    Args:
        source: Where the rows are. A path is looked for in `folder`, then in the working folder.
        folder: The folder of project.yaml.
        places: Of the sources before. What happens to a row is kept by its origin, and of an absolute path that holds
            the file's name alone: line 4 of a/rows.jsonl must not be taken for line 4 of b/rows.jsonl.

    Returns:
        Its rows, with those that could not be read named by file and row.

    Raises:
        DataError: When the source is not there or cannot be read as a whole.
    """
    path = locate(source, folder)
    notes: list[str] = []
    try:
        if path is None:
            place, numbered, digest = _read_hub(source)
        elif path.is_dir():
            place, numbered, digest = _read_folder(path, source)
        else:
            place, numbered, digest, notes = _read_file(path, source)
        place = f"{place} (source {len(places) + 1})" if place in places else place
        return replace(collect(source.source, place, numbered, digest), notes=notes)
    except OSError as error:
        raise DataError(source.source, Fault("cannot be read", error.strerror or str(error))) from None


def check_sources(data: DataConfig, folder: Path) -> None:
    """See that local sources exist and have a known type, and that prompt templates parse, before a model is loaded.

    Raises:
        DataError: With the faults of all sources.
    """
    found: list[DataError] = []
    for source in all_sources(data):
        try:
            locate(source, folder)
            if source.prompt_template is not None:
                check_template(source.prompt_template)
        except DataError as error:
            found.append(error)
    faults = [f"{error.where}: {fault}" for error in found for fault in error.faults]
    if faults:
        raise found[0] if len(faults) == 1 else DataError("data", faults)


def all_sources(data: DataConfig) -> list[SourceConfig]:
    """Sources of training rows, then that of the validation rows where there is one, with their prompt templates."""
    own = data.validation.source
    return [data.templated(source) for source in (*data.train, *([own] if own else []))]


def locate(source: RowSource, folder: Path) -> Path | None:
    """The file or folder of a source; None for a hub dataset.

    Raises:
        DataError: When it is surely meant as a path and is not there, or is of no known type.
    """
    text = source.source
    name = Path(text).expanduser()
    places = [name] if name.is_absolute() else list(dict.fromkeys([(folder / name).absolute(), name.absolute()]))
    path = next((place for place in places if place.exists()), None)
    if path is not None:
        _check_type(source, path)
    elif text.lower().endswith(FILE_TYPES + _OTHER_FILES) or not _HUB_ID.fullmatch(text):
        looked = f"looked in {' and in '.join(str(place.parent) for place in places)}"
        raise DataError(text, Fault("no such file", looked, advice="Paths start at project.yaml's folder."))
    return path


def _check_type(source: RowSource, path: Path) -> None:
    suffix = path.suffix.lower()
    if path.is_dir():
        if not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            rule = "only folders saved by datasets' save_to_disk can be read"
            raise DataError(source.source, Fault("is a folder", rule, advice="Name a file in it."))
    elif suffix not in FILE_TYPES:
        raise DataError(source.source, Fault("file type", f"one of {', '.join(FILE_TYPES)}", path.suffix))
    if source.sheet is not None and suffix not in _SPREADSHEETS:
        raise DataError(source.source, Fault("sheet", "unset: only a spreadsheet has sheets", source.sheet))


def _read_file(path: Path, source: RowSource) -> tuple[str, Iterable[Numbered], str, list[str]]:
    """What origins begin with, the rows, a digest of them, and what a person should know of how they were read."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    # The path as the project wrote it, or the name alone of an absolute one: reports must not reveal home folders.
    place = path.name if Path(source.source).expanduser().is_absolute() else source.source
    suffix = path.suffix.lower()
    if suffix in _SPREADSHEETS:
        sheet, rows, notes = read_xlsx(path, source.sheet)
        return f"{place}[{sheet}]", rows, digest, notes
    if suffix == ".json":
        return place, read_json(path, source.split), digest, []
    reader = {".parquet": read_parquet, ".csv": read_csv, ".tsv": read_csv}.get(suffix, read_jsonl)
    return place, reader(path), digest, []


def _read_folder(folder: Path, source: RowSource) -> _Read:
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(str(folder), Fault("cannot be read", _reason(error))) from None
    if isinstance(found, datasets.DatasetDict):
        if source.split not in found:
            raise DataError(str(folder), Fault("split", f"one of {', '.join(found)}", source.split))
        found = found[source.split]
    return folder.name, *_numbered(found)


def _read_hub(source: RowSource) -> _Read:
    import datasets

    with asked_once() as silent:
        try:
            found = datasets.load_dataset(source.source, source.subset, split=source.split, revision=source.revision)
            written = rows_as_written(source, found)
        # datasets raises these, and RuntimeError for a dataset that needs its own code, which tunery never runs.
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            if silent and isinstance(error, ConnectionError):
                advice = "Check the network (and HF_HUB_OFFLINE), or name a local file."
                fault = Fault("not in the local cache, and the Hub cannot be reached", silent, advice=advice)
                raise DataError(source.source, fault) from None
            raise DataError(source.source, _hub_fault(error, source)) from None
    return f"{source.source}[{source.split}]", *(written or _numbered(found))


def _numbered(dataset: Dataset) -> tuple[Iterable[Numbered], str]:
    from tunery.data.reading.arrow import native_rows

    rows = native_rows(dataset, dataset.features.arrow_schema)
    return enumerate(rows, start=1), str(dataset._fingerprint)[:32]


def _hub_fault(error: Exception, source: RowSource) -> Fault:
    """The fault in the project's words; datasets tells its failures apart by their texts only."""
    text = _reason(error)
    lowered = text.lower()
    if "unknown split" in lowered:
        return Fault("split", f"one that the dataset has ({text})", source.split)
    if "builderconfig" in lowered or "config name is missing" in lowered:
        return Fault("subset", f"one that the dataset has ({text})", source.subset)
    if "revision" in lowered and "doesn't exist" in lowered:
        return Fault("revision", "a branch, tag or commit of the dataset", source.revision)
    known = (rule for mark, rule in _FAILURES.items() if mark in lowered)
    rule, advice = next(known, ("cannot be loaded from the Hub", "Check the id, or name a local file."))
    return Fault(rule, text, advice=advice)


_FAILURES: Mapping[str, tuple[str, str]] = {
    "gated": ("gated dataset", "Accept its terms on the Hub, then set HF_TOKEN."),
    "scripts are no longer supported": (
        "can only be loaded by running its own code",
        "Use a revision that holds parquet files.",
    ),
    "couldn't reach": ("the Hub did not answer", "Check the network, or name a local file."),
    "offline": ("the Hub is switched off (offline mode)", "Unset HF_HUB_OFFLINE, or name a local file."),
}


def _reason(error: Exception) -> str:
    """The first sentence or so of a library's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
