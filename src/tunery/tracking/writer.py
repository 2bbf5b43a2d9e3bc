"""The one door through which a run's words, numbers and files reach MLflow; nothing passes it with a secret."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.tracking.redact import redact
from tunery.tracking.retry_queue import Delivery, MetricValue, RetryQueue
from tunery.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import DatasetInput

# MLflow's limits: longer values are refused by servers, and cut without a word by others.
_LONGEST_TAG, _LONGEST_PARAM = 8000, 6000
_PARAMS_A_REQUEST = 100
_TEXT_FILE = re.compile(
    r"\.(txt|md|jsonl?|ya?ml|csv|tsv|html|log|diff|patch|toml|xml|ini|cfg|env|py|sh|jinja)", re.IGNORECASE
)

# What SQLite, PostgreSQL and MySQL say of a row that is there already; and how many others may be first.
_WAS_THERE = re.compile(r"UNIQUE constraint|duplicate key|Duplicate entry")
_RACES = 5


class RunWriter:
    """A run's door to MLflow.

    Args:
        store: The store.
        run_id: The run.
        unsent: Folder for what a server that is away could not take.
    """

    def __init__(self, store: Store, run_id: str, unsent: Path) -> None:
        self.run_id = run_id
        self.retry_queue = RetryQueue(store.client, run_id, unsent)

    def points(self, points: Sequence[MetricValue]) -> None:
        """Take values of curves; sent in the background."""
        self.retry_queue.post(points)

    def params(self, values: Mapping[str, object]) -> None:
        """Log params; a value that is too long ends in an ellipsis."""
        from mlflow.entities import Param

        entries = iter({entity_name(key): param_text(value) for key, value in redact(dict(values)).items()}.items())
        while batch := [Param(key, text) for key, text in islice(entries, _PARAMS_A_REQUEST)]:
            self._deliver("params", lambda client, batch=batch: client.log_batch(self.run_id, params=batch))

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a value that is too long ends in an ellipsis."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, _cut(redact(_text(value)), _LONGEST_TAG)) for key, value in redact(dict(values)).items()]
        self._deliver(f"the tags {', '.join(values)}", lambda client: client.log_batch(self.run_id, tags=tags))

    def text(self, text: str, name: str) -> None:
        """Write a text as the artifact `name`."""
        clean = redact(text)
        self._deliver(f"the artifact {name}", lambda client: client.log_text(self.run_id, clean, name))

    def file(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder with all that is in it; text files lose their secrets on the way."""
        if not path.exists():
            raise FileNotFoundError(path)
        upload = "log_artifacts" if path.is_dir() else "log_artifact"
        what = f"the artifact {'/'.join(filter(None, [folder, path.name]))}"
        place = [_without_secrets(path)]
        self._deliver(what, lambda client: getattr(client, upload)(self.run_id, str(place[0]), folder))
        if what in self.retry_queue.waiting():
            place[0] = _copy(place[0], self.retry_queue.folder)  # the caller may delete the file before it can be sent
        elif place[0] != path:
            shutil.rmtree(place[0].parent.parent)

    def table(self, frame: pd.DataFrame, name: str) -> None:
        """Log a table that the MLflow UI can show; `name` ends in .json."""
        clean = redact_frame(frame)
        self._deliver(f"the table {name}", lambda client: client.log_table(self.run_id, clean, name))

    def datasets(self, inputs: Sequence[DatasetInput]) -> None:
        """Link dataset inputs to the run."""
        self._deliver("dataset inputs", lambda client: _insist(lambda: client.log_inputs(self.run_id, list(inputs))))

    def _deliver(self, what: str, send: Any) -> None:
        self.retry_queue.deliver(Delivery(what, send))


def _insist(send: Callable[[], Any]) -> None:
    """Send what MLflow refuses when two runs send it at once: it looks for a dataset, then adds it; then it is there.

    Source: mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore._log_inputs_impl
    """
    from mlflow.exceptions import MlflowException

    for _ in range(_RACES):
        try:
            send()
            return
        except MlflowException as error:
            if not _WAS_THERE.search(str(error)):
                raise
    send()


def entity_name(name: str) -> str:
    """The name with what MLflow does not take in one (a comma in "exact_match,strict-match") made an underscore."""
    return re.sub(r"[^/\w.\- ]", "_", name)


def param_text(value: object) -> str:
    """A param as MLflow keeps it: without secrets, and cut where it is too long."""
    return _cut(redact(_text(value)), _LONGEST_PARAM)


def redact_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of the table without secrets in its texts."""
    clean = frame.copy()
    for column in clean.columns:
        if clean[column].dtype.kind not in "biufcmM":  # numbers, truth values and dates hold no text
            clean[column] = redact(list(clean[column]))
    return clean


def _without_secrets(path: Path) -> Path:
    """The path itself, or a copy of it if a text file in it holds a secret."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    cleaned = {file.relative_to(path): clean for file in files if (clean := _cleaned(file)) is not None}
    if not cleaned:
        return path
    copy = _copy(path, Path(tempfile.mkdtemp(prefix="tunery-artifact-")))
    for name, clean in cleaned.items():
        (copy / name).write_text(clean, encoding="utf-8")
    return copy


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(dir=folder)) / path.name
    shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)
    return target


def _cleaned(file: Path) -> str | None:
    """The file's text without its secrets; None where there is nothing to take out."""
    if not _TEXT_FILE.fullmatch(file.suffix):
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    clean = redact(text)
    return None if clean == text else clean


def _text(value: object) -> str:
    # 'null' and 'true' as in project.yaml, not Python's None and True.
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return str(value)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
