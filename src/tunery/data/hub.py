"""Datasets of the Hugging Face Hub, and folders that `datasets` saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunery.config.data import SourceConfig
from tunery.data.rows import Numbered
from tunery.errors import DataError, Fault

_SAVED_BY_DATASETS = ("dataset_dict.json", "state.json")


def is_saved_folder(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((folder / name).is_file() for name in _SAVED_BY_DATASETS)


def read_folder(folder: Path, source: SourceConfig) -> tuple[Iterator[Numbered], str]:
    """Rows of a folder written by `save_to_disk`, and the dataset's fingerprint.

    Raises:
        DataError: When the folder is damaged, or holds several splits and not this one.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(str(folder), Fault("cannot be read", _reason(error))) from None
    if isinstance(found, datasets.DatasetDict):
        found = _one_split(found, source.split, str(folder))
    return _numbered(found), _digest(found)


def read_hub(source: SourceConfig) -> tuple[Iterator[Numbered], str]:
    """Rows of a hub dataset, and its fingerprint.

    Raises:
        DataError: When the Hub does not answer, or has no such dataset, subset, split or revision, or asks for consent.
    """
    import datasets

    try:
        found = datasets.load_dataset(source.source, source.subset, split=source.split, revision=source.revision)
    # datasets raises these, and RuntimeError for a dataset that needs its own code, which tunery never runs.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(source.source, _hub_fault(error, source)) from None
    return _numbered(found), _digest(found)


def _hub_fault(error: Exception, source: SourceConfig) -> Fault:
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


def _one_split(found: Mapping[str, Any], split: str, where: str) -> Any:
    if split not in found:
        raise DataError(where, Fault("split", f"one of {', '.join(found)}", split))
    return found[split]


def _numbered(dataset: Any) -> Iterator[Numbered]:
    return ((n, dict(row)) for n, row in enumerate(dataset, start=1))


def _digest(dataset: Any) -> str:
    return str(dataset._fingerprint)[:32]


def _reason(error: Exception) -> str:
    """The first sentence or so of a library's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
