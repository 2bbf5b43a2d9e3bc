"""A few seconds' look at a tracking URI before MLflow opens it: MLflow itself would retry for minutes."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tunery.errors import Fault, TrackingError
from tunery.tracking.redact import redact

PATIENCE_SECONDS = 4.0

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3.
_DRIVERS = "For PostgreSQL: pip install psycopg2-binary, and write postgresql+psycopg2://..."
_HANDLED_BY_MLFLOW = ("databricks", "databricks-uc", "uc")


def check_reachable(uri: str) -> None:
    """Nothing if the store answers.

    Raises:
        TrackingError: If it does not answer within seconds, cannot be written, or is of a kind that is not supported.
    """
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in ("http", "https"):
        _check_server(uri)
    elif scheme in _DATABASE_PORTS:
        _check_database(uri, _DATABASE_PORTS[scheme])
    elif scheme not in _HANDLED_BY_MLFLOW:
        raise TrackingError(redact(uri), _unsupported(uri, scheme))


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a SQLite database, None for any other store."""
    scheme, _, rest = uri.partition(":///")
    if scheme.split("+")[0] != "sqlite" or not rest:
        return None
    return Path(unquote(rest.split("?")[0])).expanduser().absolute()


def _unsupported(uri: str, scheme: str) -> Fault:
    advice = "Use sqlite:///mlflow.db, postgresql://..., or http://... of an mlflow server."
    if scheme in ("file", ""):
        return Fault(
            "MLFLOW_TRACKING_URI",
            "a database or a server: MLflow no longer writes runs to plain folders",
            redact(uri),
            f"{advice} Move old runs with: mlflow migrate-filestore --help.",
        )
    return Fault(
        "MLFLOW_TRACKING_URI", "sqlite:///, postgresql://, mysql://, mssql://, http:// or https://", redact(uri), advice
    )


def _check_sqlite(uri: str) -> None:
    path = sqlite_file(uri)
    if path is None:
        raise TrackingError(uri, Fault("MLFLOW_TRACKING_URI", "sqlite:/// and a path", uri, "Try sqlite:///mlflow.db."))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path, timeout=PATIENCE_SECONDS) as connection:
            # Takes the write lock and writes nothing: tells a read-only or foreign file from a database.
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        connection.close()
    except (OSError, sqlite3.Error) as error:
        if "locked" in str(error):  # a busy database is a working one
            return
        raise TrackingError(
            str(path),
            Fault(
                f"the SQLite database cannot be written ({error})",
                advice="Check the path and its permissions, or set MLFLOW_TRACKING_URI to another store.",
            ),
        ) from error


def _check_server(uri: str) -> None:
    import requests

    try:
        answer = requests.get(uri.rstrip("/") + "/health", timeout=PATIENCE_SECONDS)
    except requests.RequestException as error:
        raise _silent(uri, type(error).__name__) from error
    if answer.status_code in (502, 503, 504):
        raise _silent(uri, f"HTTP {answer.status_code}")


def _check_database(uri: str, usual_port: int) -> None:
    parts = urlsplit(uri)
    try:
        if parts.hostname:
            socket.create_connection((parts.hostname, parts.port or usual_port), timeout=PATIENCE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _silent(uri, str(error)) from error
    _check_login(uri)


def _check_login(uri: str) -> None:
    import sqlalchemy

    try:
        sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool).connect().close()
    except ImportError as error:
        raise TrackingError(
            redact(uri), Fault(f"the database's driver is missing ({error})", advice=_DRIVERS)
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = redact(str(error)).strip().splitlines()[0]
        raise TrackingError(
            redact(uri), Fault(f"the database refuses ({reason})", advice="Check user, password and database name.")
        ) from error


def _silent(uri: str, reason: str) -> TrackingError:
    return TrackingError(
        redact(uri),
        Fault(
            f"the tracking server does not answer ({redact(reason)})",
            advice="Start it, check MLFLOW_TRACKING_URI, or unset that to use ./mlflow.db.",
        ),
    )
