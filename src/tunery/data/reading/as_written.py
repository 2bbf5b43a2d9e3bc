"""Rows of a hub dataset's text files as they were written, where `datasets` guesses what they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tunery.config.data import RowSource
from tunery.data.reading.readers import read_csv, read_json, read_jsonl
from tunery.data.reading.rows import Numbered

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
# What these settings say is left to `datasets`: which rows, which columns, which bytes.
_CHANGING = ("field", "encoding", "names", "column_names", "header", "skiprows", "nrows", "skip_blank_lines", "comment")


def rows_as_written(source: RowSource, found: Dataset) -> tuple[list[Numbered], str] | None:
    """The rows of a split of JSON or CSV files, read as the same files here are, and a hash of the files.

    `datasets` makes times of dates, 7 of "007" and nothing of "NA".

    Args:
        found: The split as `datasets` loaded it.

    Returns:
        None where the rows are of other files, settings of the dataset change how they are read, or they are not as
        many as `datasets` found.
    """
    if found.info.builder_name not in ("json", "csv"):
        return None
    import datasets

    builder = datasets.load_dataset_builder(source.source, source.subset, revision=source.revision)
    if not _is_plain(builder):
        return None
    counts = {name: split.num_examples for name, split in (found.info.splits or {}).items()}
    rows: list[Numbered] = []
    digest = hashlib.sha256()
    for part in datasets.ReadInstruction.from_spec(source.split).to_absolute(counts):
        own: list[Mapping[str, Any] | str] = []
        for name, file in _files(builder, part.splitname):
            digest.update(file.read_bytes())
            own += [values for _, values in _read(found.info.builder_name, name, file) if values]
        if len(own) != counts[part.splitname]:
            return None
        rows += enumerate(own[part.from_ : part.to], start=len(rows) + 1)
    return rows, digest.hexdigest()[:32]


def _is_plain(builder: DatasetBuilder) -> bool:
    """Whether its files are read whole and as UTF-8, as far as its settings say."""
    usual = type(builder.config)()
    settings = ((getattr(builder.config, key, None), getattr(usual, key, None)) for key in _CHANGING)
    return bool(builder.config.data_files) and all(own == other for own, other in settings)


def _files(builder: DatasetBuilder, split: str) -> Iterator[tuple[str, Path]]:
    """A split's files, downloaded: each by its name on the Hub and its place here."""
    import datasets

    named = [str(name) for name in builder.config.data_files[split]]
    manager = datasets.DownloadManager(dataset_name=builder.dataset_name)
    for name, local in zip(named, manager.download_and_extract(named), strict=True):
        yield from ((name, Path(file)) for file in manager.iter_files(local))


def _read(kind: str, name: str, file: Path) -> Iterator[Numbered]:
    if kind == "csv":
        return read_csv(file)
    written = PurePosixPath(name)
    suffix = PurePosixPath(written.stem).suffix if written.suffix in _COMPRESSED else written.suffix
    return read_json(file, "") if suffix == ".json" else read_jsonl(file)
