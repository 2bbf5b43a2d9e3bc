"""Finding a source and reading its rows: a file, a folder saved by `datasets`, or a hub dataset."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tunery.config.data import DataConfig, SourceConfig
from tunery.data import hub, readers
from tunery.data.prompt_template import parse_template
from tunery.data.rows import Rows, collect
from tunery.errors import DataError, Fault

FILE_TYPES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".xlsx", ".xlsm")
# Endings that are surely files, so that a missing one is not looked for on the Hub, where ids may hold dots.
_OTHER_FILES = (".txt", ".xls", ".ods", ".arrow", ".gz", ".zip", ".yaml", ".yml", ".md", ".pkl", ".db")
_SPREADSHEETS = (".xlsx", ".xlsm")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def load_rows(source: SourceConfig, folder: Path) -> Rows:
    """Read every row of a source.

    Args:
        source: Where the rows are. A path is looked for in `folder`, then in the working folder.
        folder: The folder of project.yaml.

    Returns:
        Its rows, with those that could not be read named by file and row.

    Raises:
        DataError: When the source is not there or cannot be read as a whole.
    """
    path = locate(source, folder)
    if path is None:
        numbered, digest = hub.read_hub(source)
        return collect(source.source, f"{source.source}[{source.split}]", numbered, digest)
    if path.is_dir():
        numbered, digest = hub.read_folder(path, source)
        return collect(source.source, path.name, numbered, digest)
    try:
        return _read_file(source, path)
    except OSError as error:
        raise DataError(source.source, Fault("cannot be read", error.strerror or str(error))) from None


def check_sources(data: DataConfig, folder: Path) -> None:
    """See that local sources exist and have a known type, and that prompt templates parse, before a model is loaded.

    Raises:
        DataError: With the faults of all sources.
    """
    found = [_check(source, folder) for source in all_sources(data)]
    faults: list[Fault | str] = [f"{error.where}: {fault}" for error in found if error for fault in error.faults]
    if len(faults) == 1:
        raise next(error for error in found if error)
    if faults:
        raise DataError("data", faults)


def all_sources(data: DataConfig) -> list[SourceConfig]:
    """Sources of training rows, then that of the validation rows where there is one."""
    own = data.validation.source
    return [*data.train, *([own] if own else [])]


def _check(source: SourceConfig, folder: Path) -> DataError | None:
    try:
        locate(source, folder)
        if source.prompt_template is not None:
            parse_template(source.prompt_template)
    except DataError as error:
        return error
    return None


def locate(source: SourceConfig, folder: Path) -> Path | None:
    """The file or folder of a source; None for a hub dataset.

    Raises:
        DataError: When it is surely meant as a path and is not there, or is of no known type.
    """
    name = Path(source.source).expanduser()
    places = [name] if name.is_absolute() else list(dict.fromkeys([(folder / name).absolute(), name.absolute()]))
    path = next((place for place in places if place.exists()), None)
    if path is None:
        if _is_path(source.source):
            looked = " and in ".join(str(place.parent) for place in places)
            raise DataError(
                source.source,
                Fault("no such file", f"looked in {looked}", advice="Paths start at project.yaml's folder."),
            )
        return None
    _check_type(source, path)
    return path


def _is_path(text: str) -> bool:
    return text.lower().endswith(FILE_TYPES + _OTHER_FILES) or not _HUB_ID.fullmatch(text)


def _check_type(source: SourceConfig, path: Path) -> None:
    if path.is_dir():
        if not hub.is_saved_folder(path):
            raise DataError(
                source.source,
                Fault(
                    "is a folder",
                    "only folders saved by datasets' save_to_disk can be read",
                    advice="Name a file in it.",
                ),
            )
    elif path.suffix.lower() not in FILE_TYPES:
        raise DataError(source.source, Fault("file type", f"one of {', '.join(FILE_TYPES)}", path.suffix))
    if source.sheet is not None and path.suffix.lower() not in _SPREADSHEETS:
        raise DataError(source.source, Fault("sheet", "unset: only a spreadsheet has sheets", source.sheet))


def _read_file(source: SourceConfig, path: Path) -> Rows:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    # The path as the project wrote it, or the name alone of an absolute one: reports must not reveal home folders.
    place = path.name if Path(source.source).expanduser().is_absolute() else source.source
    if path.suffix.lower() in _SPREADSHEETS:
        sheet, numbered = readers.read_xlsx(path, source.sheet)
        return collect(source.source, f"{place}[{sheet}]", numbered, digest)
    return collect(source.source, place, _reader(source, path)(path), digest)


def _reader(source: SourceConfig, path: Path) -> readers.Reader:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return lambda file: readers.read_json(file, source.split)
    if suffix == ".parquet":
        return readers.read_parquet
    return readers.read_csv if suffix in (".csv", ".tsv") else readers.read_jsonl
