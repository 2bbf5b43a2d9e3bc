"""Where a store's files lie: by absolute paths in its database, which stay behind when its folder is moved."""

from __future__ import annotations

from pathlib import Path

from tunery.tracking.store import Store, sqlite_file

_ROOT = "mlruns"


def local_place(artifact_uri: str) -> Path | None:
    """The folder of this machine that an artifact location means; None for a server or a bucket."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(artifact_uri)) if artifact_uri.startswith(("/", "file:")) else None


def moved(store: Store, artifact_uri: str, *, was_kept: bool = False) -> str | None:
    """Why files cannot be there, and what to do: their folder was moved, or is not mounted; None where it is there.

    Args:
        artifact_uri: Of a run or a logged model.
        was_kept: Whether there were files; a store that never kept any has no folder for them either.
    """
    place = local_place(artifact_uri)
    root = None if place is None else _root(place)
    if place is None or root is None or root.exists():
        return None  # elsewhere, or only this run's own files are gone
    now = _beside_database(store)
    if now is not None and (now / place.relative_to(root)).exists():
        return f"{place} is not there, but {now} holds it: the store was moved. Move it back, or: ln -s {now} {root}"
    if was_kept or not root.parent.exists():
        return f"{place} is not there. If {root} was moved, move it back, or: ln -s <where it is> {root}"
    return None


def _root(place: Path) -> Path | None:
    """The folder above all experiments, if tunery or MLflow made it."""
    return next((parent for parent in place.parents if parent.name == _ROOT), None)


def _beside_database(store: Store) -> Path | None:
    database = sqlite_file(store.uri)
    return None if database is None else database.parent / _ROOT
