"""A run's curves as TensorBoard's event files, beside MLflow: the same names, steps and values."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from tunery.config.training import TrainingConfig
from tunery.errors import ConfigError, Fault, StorageError
from tunery.tracking.redact import redact
from tunery.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric

FOLDER = "tensorboard"  # of a run's artifacts
CURVES = ("train/", "validation/", "router/")  # how the names of training's metrics begin
_FLUSH_SECONDS = 10


def check_event_files(training: TrainingConfig) -> None:
    """Whether event files can be written, if they are asked for; before a run is made.

    Raises:
        ConfigError: If the package tensorboard, which an extra brings, is missing.
    """
    if training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        rule = "false where the package tensorboard is missing"
        advice = "pip install 'tunery[tensorboard]', or pip install -e '.[tensorboard]' in a clone."
        raise ConfigError("this machine", Fault("training.tensorboard", rule, True, advice))


class EventFiles:
    """One event file of one run. Values are kept in 32 bits, as every reader of the format takes them.

    A resumed run writes its file anew from the points that MLflow holds: a second file beside the first would show the
    points between the last checkpoint and the kill twice.

    Args:
        folder: Where the file grows; what is in it is deleted.
        run_id: The file's name at its end, so that a resumed run's file takes the place of the earlier one.
        held: Points of the curves that MLflow holds already.

    Raises:
        StorageError: If the folder cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, run_id: str, held: Iterable[Metric]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._run_id = folder, run_id
        with _storage_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder), flush_secs=_FLUSH_SECONDS)
            for point in sorted(held, key=lambda point: point.step):
                self._writer.add_scalar(point.key, point.value, point.step, walltime=point.timestamp / 1000)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write a step's values, by the names that MLflow has."""
        with _storage_errors(self._folder):
            for key, value in values.items():
                self._writer.add_scalar(key, value, step)

    def close(self) -> Path:
        """Write what is left; the folder with the file, under its last name."""
        with _storage_errors(self._folder):
            self._writer.close()
            (file,) = self._folder.iterdir()
            file.rename(self._folder / f"events.out.tfevents.{self._run_id}")
        return self._folder


def how_to_look(store: Store, run_id: str) -> str:
    """The command that shows a run's event files; of an artifact store elsewhere, the one before it too."""
    place = _local(store.client.get_run(run_id).info.artifact_uri)
    if place is not None:
        return f"tensorboard --logdir {shlex.quote(f'{place}/{FOLDER}')}"
    fetch = (
        f"MLFLOW_TRACKING_URI={shlex.quote(redact(store.uri))} mlflow artifacts download -r {run_id} -a {FOLDER} -d ."
    )
    return f"{fetch} && tensorboard --logdir {FOLDER}"


def how_to_look_at_all(store: Store, experiment_id: str) -> str:
    """The command that shows those of every run of an experiment; of an artifact store elsewhere, where they are."""
    place = _local(store.client.get_experiment(experiment_id).artifact_location)
    return f"the artifact {FOLDER} of each" if place is None else f"tensorboard --logdir {shlex.quote(place)}"


def _local(address: str) -> str | None:
    """The folder that an artifact store's address means; None if it is not on this machine."""
    place = urlparse(address)
    return url2pathname(place.path) if place.scheme in ("", "file") else None


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fault = f"TensorBoard's event file cannot be written ({error.strerror or error})."
        raise StorageError(str(folder), f"{fault} Free space, or set training.tensorboard: false.") from error
