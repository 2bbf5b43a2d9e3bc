"""Files of a run, read where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tunery.tracking.store import Store


@contextmanager
def artifact(store: Store, run_id: str, artifact_uri: str, name: str) -> Iterator[Path]:
    """Path of a run's file: in its own place if that is a folder of this machine, else a copy that is removed.

    Args:
        store: The store of the run.
        artifact_uri: Where the run keeps its files.
        name: The file's path among them.

    Raises:
        OSError: If a remote artifact store does not have the file, or does not answer.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.file_utils import local_file_uri_to_path

    if artifact_uri.startswith(("/", "file:")):
        yield Path(local_file_uri_to_path(artifact_uri)) / name
        return
    with TemporaryDirectory(prefix="tunery-artifact-") as folder:
        try:
            path = Path(store.client.download_artifacts(run_id, name, folder))
        except MlflowException as error:
            raise FileNotFoundError(f"{artifact_uri}/{name}: {error}") from error
        yield path
