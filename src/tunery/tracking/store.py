"""Where records are kept: one MLflow store, opened so that a fault is told at once and in one sentence."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from tunery.errors import Fault, StorageError, StoreAway, TrackingError
from tunery.tracking.redact import first_line, guard_logs, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

Answer = TypeVar("Answer")

# The UI then shows runs of a model in training, not of an application that calls one.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# What the menu Views shows of a project's runs: MLflow's own table has no column of a score.
_VIEW = {
    "searchFilter": "tags.`tunery.kind` = 'train'",
    "orderByKey": "metrics.`score`",
    "orderByAsc": False,
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("score", "base/score", "delta/score")),
        *(f"tags.`tunery.{name}`" for name in ("base", "datasets", "method")),
    ],
}
_PROJECT_TAGS = {
    **_EXPERIMENT_TAGS,
    "mlflow.experiment.primaryMetric.name": "score",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    "mlflow.sharedViewState.tunery-scores": json.dumps(
        {"name": "Trainings by score", "createdAt": 0, "updatedAt": 0, "state": json.dumps(_VIEW)}
    ),
    "mlflow.note.content": "Runs of tunery. Each has its report as its description. `score` is the mean of the primary "
    "metrics, and `delta/score` its difference to the base's. *Views* (above) has the trainings by score; "
    "tags.`tunery.kind` tells train, study, trial, evaluation and import apart. Comparisons, promotions and votes are "
    "in '<project>-decisions'.",
}
_DECISIONS_TAGS = {
    **_EXPERIMENT_TAGS,
    "mlflow.note.content": "Comparisons, promotions and votes of a project, whose trainings are in the experiment of "
    "its name. Each has its report as its description.",
}

# MLflow's own: 7 retries with doubling pauses hold a run up for four minutes each time that a server is away. Points
# that cannot be sent are kept and sent later, so that a run need not wait.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

PATIENCE_SECONDS = 4.0
# How long a study waits for a store that went away.
UNATTENDED_SECONDS = 300.0
# A database that restarts, and a request that a server did not answer.
_AWAY = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")

_LOCKED = "database is locked"
_DAMAGED = ("malformed", "not a database")

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3.
_DRIVERS = "For PostgreSQL: pip install psycopg2-binary, and write postgresql+psycopg2://..."
_STORES = "Use sqlite:///mlflow.db, postgresql://..., or http://... of an mlflow server."
_HANDLED_BY_MLFLOW = ("databricks", "databricks-uc", "uc")


@dataclass(frozen=True)
class Store:
    """An MLflow store that answered."""

    uri: str  # tracking URI, absolute where it is a file
    experiment: str  # name of the experiment for new runs; made when the first run needs it
    client: MlflowClient

    @property
    def where(self) -> str:
        """Which store was read, for somebody who does not find what they look for; without credentials."""
        return f"Read was {redact(self.uri)}; MLFLOW_TRACKING_URI names another store."

    def experiment_id(self, name: str | None = None) -> str:
        """Id of the experiment, made if it is not there; two processes at once get the same one.

        Raises:
            TrackingError: If the experiment was deleted, or the store refuses.
        """
        from mlflow.exceptions import MlflowException

        wanted = name or self.experiment
        with refusals(self.uri):
            found = self.client.get_experiment_by_name(wanted)
            if found is None:
                database = sqlite_file(self.uri)
                # Beside the database, wherever the process stands; a server decides for itself.
                place = None if database is None else str(database.parent / "mlruns" / wanted)
                try:
                    return str(self.client.create_experiment(wanted, artifact_location=place, tags=_tags_of(wanted)))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = self.client.get_experiment_by_name(wanted)
        if found is None or found.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore -x {found.experiment_id if found else '<id>'}"
            told = f"the experiment {wanted!r} was deleted. Restore it: {restore}"
            raise TrackingError(redact(self.uri), told)
        self.describe_experiment(found)
        return str(found.experiment_id)

    def describe_experiment(self, experiment: Experiment) -> None:
        """Give an experiment that MLflow or a person made the tags that ours have; what it has stays."""
        with refusals(self.uri):
            for key, value in _tags_of(experiment.name).items():
                if key not in experiment.tags:
                    self.client.set_experiment_tag(experiment.experiment_id, key, value)

    def found(self, ask: Callable[..., Answer], *names: str) -> Answer | None:
        """What a method of the client answers; None if there is nothing of that name."""
        from mlflow.exceptions import MlflowException

        with refusals(self.uri):
            try:
                return ask(*names)
            except MlflowException as error:
                # The second is MLflow's word for an alias that nobody has, and for a name that nothing can have.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise


_DECISIONS = "-decisions"


def decisions_of(project: str) -> str:
    """The experiment of a project's comparisons, promotions and votes, apart from the runs that they are about."""
    return f"{project}{_DECISIONS}"


def _tags_of(experiment: str) -> dict[str, str]:
    return _DECISIONS_TAGS if experiment.endswith(_DECISIONS) else _PROJECT_TAGS


def connect(uri: str | None, experiment: str) -> Store:
    """Open a store, which also becomes MLflow's own tracking URI for this process and its children.

    A fresh database is set up once, however many processes open it at the same time, and is there whole or not at all:
    a process that is killed meanwhile leaves nothing behind that the next could stumble over.

    Args:
        uri: Tracking URI; None: MLFLOW_TRACKING_URI, else ./mlflow.db with ./mlruns beside it.
        experiment: Experiment of new runs: the project's name.

    Raises:
        TrackingError: If the store cannot be used: it does not answer, refuses, or is of a kind that MLflow dropped.
    """
    for name, value in {**_PATIENCE, **_QUIET}.items():
        os.environ.setdefault(name, value)
    address = store_address(uri)
    _check_connection(address)

    import mlflow

    _silence()
    with refusals(address), _set_up_once(address):
        _make_whole(sqlite_file(address))
        mlflow.set_tracking_uri(address)
        client = _opened(address)
    return Store(uri=address, experiment=experiment, client=client)


def store_address(uri: str | None) -> str:
    """The store that is meant: as given, else MLFLOW_TRACKING_URI, else ./mlflow.db; absolute where it is a file."""
    address = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    # A later change of folder must not open another database.
    return address if (database := sqlite_file(address)) is None else f"sqlite:///{database}"


def is_there(address: str) -> bool:
    """Whether a store is anything but a file that nobody has made yet, which `connect` would make."""
    file = sqlite_file(address)
    return file is None or file.is_file()


@contextmanager
def refusals(uri: str) -> Iterator[None]:
    """Turn what MLflow raises inside into one error, without credentials.

    Raises:
        TrackingError: If the store refuses; a StoreAway if it does not answer.
        StorageError: If a folder of the artifact store cannot be written.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as error:
        text = first_line(error).rstrip(".")
        told, advice = f"MLflow: {text}", "Check MLFLOW_TRACKING_URI and the server's log."
        if _LOCKED in str(error):  # what MLflow asked for, and how, says nothing about it
            told = "another process has kept the SQLite database locked for half a minute"
            advice = "Run the same command when that process has ended; for many writers, use a server or PostgreSQL."
            raise StoreAway(redact(uri), Fault(told, advice=advice)) from error
        if "out-of-date database schema" in text:
            told = f"the database was made by another MLflow ({text})"
            advice = "Back it up, then: mlflow db upgrade <uri>."
        elif error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
            told = f"access denied ({text})"
            advice = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        elif error.error_code in _AWAY:
            raise StoreAway(redact(uri), Fault(told, advice=advice)) from error
        raise _unusable(uri, told, advice) from error
    except RequestException as error:  # of an artifact store; MLflow passes on what its socket or its folder raises
        fault = Fault(f"the artifact store does not answer ({type(error).__name__})", advice="Check the server's log.")
        raise StoreAway(redact(uri), fault) from error
    except OSError as error:
        fault = Fault(f"a file cannot be written ({redact(str(error))})", advice="Check its folder's rights and space.")
        raise StorageError(redact(uri), fault) from error


def wait_until_back(store: Store) -> None:
    """Return when the store answers; for work that nobody watches.

    Raises:
        StoreAway: If it has not answered for minutes.
    """
    until = time.monotonic() + UNATTENDED_SECONDS
    while True:
        try:
            with refusals(store.uri):
                store.client.search_experiments(max_results=1)
            return
        except StoreAway:
            if time.monotonic() > until:
                raise
        time.sleep(1.0)


def one_at_a_time(uri: str, work: str) -> AbstractContextManager[object]:
    """Let the processes of one person on this host do this work on a store one after the other; MLflow has no lock."""
    from filelock import FileLock

    path = sqlite_file(uri)
    # Another person's lock could not be opened.
    told = hashlib.sha256(f"{uri} {Path.home()}".encode()).hexdigest()[:16]
    place = path or Path(tempfile.gettempdir()) / f"tunery-{told}"
    return FileLock(place.with_name(f"{place.name}{work}.lock"))


def _set_up_once(uri: str) -> AbstractContextManager[object]:
    """One process at a time: migrations that run twice at once die of `duplicate column name`."""
    return nullcontext() if uri.startswith(("http://", "https://")) else one_at_a_time(uri, "")


def _make_whole(database: Path | None) -> None:
    """Make a SQLite database that is not there beside its place, where it then appears with all its tables."""
    if database is None or (database.is_file() and database.stat().st_size > 0):
        return
    for left in database.parent.glob(f".{database.name}.*.new"):  # by processes that were killed
        left.unlink(missing_ok=True)
    # A name of its own: MLflow keeps a store open by its address, whatever became of the file.
    unfinished = database.with_name(f".{database.name}.{secrets.token_hex(4)}.new")
    _opened(f"sqlite:///{unfinished}")
    os.replace(unfinished, database)


def _opened(address: str) -> MlflowClient:
    """A client of a store whose tables are there."""
    import sqlalchemy
    from mlflow import MlflowClient

    try:
        client = MlflowClient(address)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)  # the registry sets up its own tables
    except sqlalchemy.exc.SQLAlchemyError as error:
        told = f"its tables cannot be set up ({first_line(error)}): a process that made them may have been killed"
        raise _unusable(address, told, "If it holds nothing that you need, move the database away.") from error
    return client


def _silence() -> None:
    """MLflow tells every migration and every known model; only its warnings are worth a line."""
    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # repeats each SQL error with its traceback
    # Its thread ends when it cannot write, and says so with the whole SQL; what the run could not write is told.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    guard_logs()


def _check_connection(uri: str) -> None:
    """Nothing if the store answers within seconds, can be written, and is of a kind that MLflow supports."""
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in ("http", "https"):
        _check_server(uri)
    elif scheme in _DATABASE_PORTS:
        _check_database(uri, _DATABASE_PORTS[scheme])
    elif scheme in ("file", ""):
        rule = "a database or a server: MLflow no longer writes runs to plain folders"
        advice = f"{_STORES} Move old runs with: mlflow migrate-filestore --help."
        raise TrackingError(redact(uri), Fault("MLFLOW_TRACKING_URI", rule, redact(uri), advice))
    elif scheme not in _HANDLED_BY_MLFLOW:
        rule = "sqlite:///, postgresql://, mysql://, mssql://, http:// or https://"
        raise TrackingError(redact(uri), Fault("MLFLOW_TRACKING_URI", rule, redact(uri), _STORES))


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a SQLite database, None for any other store."""
    scheme, _, rest = uri.partition(":///")
    if scheme.split("+")[0] != "sqlite" or not rest:
        return None
    return Path(unquote(rest.split("?")[0])).expanduser().absolute()


def _check_sqlite(uri: str) -> None:
    path = sqlite_file(uri)
    if path is None:
        raise TrackingError(uri, Fault("MLFLOW_TRACKING_URI", "sqlite:/// and a path", uri, "Try sqlite:///mlflow.db."))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS)) as connection:
            # Takes the write lock and writes nothing: tells a read-only or foreign file from a database.
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        if _LOCKED in str(error):  # a busy database is a working one
            return
        if any(word in str(error) for word in _DAMAGED):
            told = f"this is no SQLite database, or a damaged one ({error})"
            advice = "Restore it from a copy, or set MLFLOW_TRACKING_URI to another store. The artifacts are not in it."
            raise _unusable(str(path), told, advice) from error
        advice = "Check the path and its permissions, or set MLFLOW_TRACKING_URI to another store."
        raise _unusable(str(path), f"the SQLite database cannot be written ({error})", advice) from error


def _check_server(uri: str) -> None:
    import requests

    try:
        answer = requests.get(uri.rstrip("/") + "/health", timeout=PATIENCE_SECONDS)
    except requests.RequestException as error:
        raise _silent(uri, type(error).__name__) from error
    if answer.status_code in (502, 503, 504):
        raise _silent(uri, f"HTTP {answer.status_code}")


def _check_database(uri: str, usual_port: int) -> None:
    import sqlalchemy

    parts = urlsplit(uri)
    try:
        if parts.hostname:
            socket.create_connection((parts.hostname, parts.port or usual_port), timeout=PATIENCE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _silent(uri, str(error)) from error
    try:
        sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool).connect().close()
    except ImportError as error:
        raise _unusable(uri, f"the database's driver is missing ({error})", _DRIVERS) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        told = f"the database refuses ({first_line(error)})"
        raise _unusable(uri, told, "Check user, password and database name.") from error


def _silent(uri: str, reason: str) -> TrackingError:
    advice = "Start it, check MLFLOW_TRACKING_URI, or unset that to use ./mlflow.db."
    return _unusable(uri, f"the tracking server does not answer ({redact(reason)})", advice)


def _unusable(where: str, told: str, advice: str) -> TrackingError:
    return TrackingError(redact(where), Fault(told, advice=advice))
