"""Where a study is kept: one SQLite file for one host, a database server for several."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from tunery.config.fingerprint import json_digest
from tunery.errors import Fault, RefError, StorageError
from tunery.runs.workdir import exclusive
from tunery.search.study.patient import PatientStorage, database_reason
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_DEFAULT_FILE = "optuna.db"
# Optuna's words for a row of `alembic_version` that it does not know: MLflow's table has the same name.
_FOREIGN = "no longer compatible with the table schema"
# After a study's name: the Optuna studies that hold its finals and its conclusions.
FINALS, CONCLUSIONS = " finals", " end"
_MYSQL = ({"MySQLdb": "mysqldb", "pymysql": "pymysql"}, "pip install pymysql")
# Of each kind of server: packages that can talk to it, as SQLAlchemy calls them, and how to get one.
_SERVERS = {
    "postgresql": ({"psycopg2": "psycopg2", "psycopg": "psycopg"}, 'pip install "tunery[postgres]"'),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def storage_url(given: str | None) -> str:
    """The storage's address; the path of a SQLite file becomes absolute, so that workers find it from any folder.

    Raises:
        StorageError: If workers cannot share it, it is not a file, or its driver is not installed.
    """
    if given is None:
        given = f"sqlite:///{_DEFAULT_FILE}"
    if given.startswith("sqlite:///"):
        file = Path(given.removeprefix("sqlite:///")).expanduser().resolve()
        if given in ("sqlite:///", "sqlite:///:memory:"):
            advice = f"Try sqlite:///{_DEFAULT_FILE}: a study in memory would be lost when the command ends."
            raise _refused(given, "sqlite:/// and the name of a file", advice)
        if file.is_dir():
            raise _refused(given, "the name of a file, and this is a folder", f"Try sqlite:///{file}/{_DEFAULT_FILE}.")
        return f"sqlite:///{file}"
    if given.partition(":")[0].partition("+")[0] in _SERVERS and "://" in given:
        return _with_driver(given)
    rule = "sqlite:///FILE, postgresql://HOST/NAME or mysql://HOST/NAME"
    raise _refused(given, rule, "A server is needed for several hosts.")


def _refused(url: str, rule: str, advice: str) -> StorageError:
    return StorageError("storage", Fault("its address", rule, redact(url), advice))


def is_one_host(url: str) -> bool:
    """Whether only processes of this host can use the storage."""
    return url.startswith("sqlite:")


@contextmanager
def exclusive_study(url: str, study: str) -> Iterator[None]:
    """Keep a second command away from a study in a file: it would take the first one's trials for dead.

    The lock is beside the file, so that every host and account that can reach the file finds it.

    Raises:
        RefError: If another command runs the study now.
    """
    file = Path(url.removeprefix("sqlite:///"))
    if not is_one_host(url) or not file.parent.is_dir():  # of a missing folder, opening the file says so
        yield
        return
    advice = "More workers: --workers N in one command; several commands or hosts: --storage postgresql://HOST/NAME."
    taken = RefError(f"study {study}", f"another process is running it now. {advice}")
    with exclusive(file.with_name(f"{file.name}.{json_digest(study)}.lock"), taken):
        yield


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage: at an address from storage_url, or at grpc://host:port of a proxy in front of it.

    Raises:
        StorageError: If it does not answer or refuses; without a password in the text.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if url.startswith("grpc://"):
        host, _, port = url.removeprefix("grpc://").rpartition(":")
        proxied = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
        try:
            proxied.wait_server_ready(timeout=60)
        except ConnectionError as error:
            fault = "the study's storage does not answer. Run the same command to resume the study."
            raise StorageError(url, fault) from error
        return proxied
    from sqlalchemy.exc import SQLAlchemyError

    # How often a worker on another host shows that it lives; after two missed heartbeats its trial is requeued.
    beat = None if is_one_host(url) else int(os.environ.get("TUNERY_HEARTBEAT_SECONDS", "30"))
    # A connection is lost when the server restarts: test it before using it.
    engine = {"connect_args": {"timeout": 60}} if is_one_host(url) else {"pool_pre_ping": True}
    for left in reversed(range(5)):
        try:
            return PatientStorage(
                url, engine_kwargs=engine, heartbeat_interval=beat, grace_period=None if beat is None else 2 * beat
            )
        except (SQLAlchemyError, OSError, ImportError, RuntimeError) as error:
            # If two hosts find an empty database at once, one meets the tables that the other creates.
            exists = any(word in str(error).lower() for word in ("already exists", "duplicate", "unique"))
            if not left or not exists:
                raise StorageError(redact(url), _why(error, url)) from error
            time.sleep(1.0)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what an unreachable storage raises into one StorageError, without a password.

    Raises:
        StorageError: If the storage stopped answering.
    """
    try:
        yield
    except StorageError:
        raise  # says itself which storage, and why
    except unreachable_errors() as error:
        raise StorageError(redact(url), f"{_why(error, url)} Run the same command to resume the study.") from error


def unreachable_errors() -> tuple[type[Exception], ...]:
    """What Optuna's storages raise if their database, or the proxy in front of it, does not answer."""
    import grpc
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, optuna.exceptions.StorageInternalError, StorageError, grpc.RpcError)


def _with_driver(url: str) -> str:
    """The address with whichever driver is installed: SQLAlchemy alone takes postgresql:// for psycopg 3."""
    scheme, _, rest = url.partition("://")
    kind, _, named = scheme.partition("+")
    drivers, install = _SERVERS[kind]
    there = [driver for package, driver in drivers.items() if importlib.util.find_spec(package)]
    if named in drivers.values() and named not in there:
        raise StorageError(redact(url), f"the driver {named} is not installed: {install}.")
    if named:
        return url
    if not there:
        raise StorageError(redact(url), f"needs a driver ({' or '.join(drivers)}): {install}.")
    return f"{kind}+{there[0]}://{rest}"


def _why(error: Exception, url: str) -> str:
    reason = database_reason(error)
    if _FOREIGN in reason:
        advice = "Give the study a database of its own, as `createdb optuna` makes."
        return f"the database holds the tables of MLflow, or of another version of Optuna. {advice}"
    check = "path, and that its folder can be written" if is_one_host(url) else "address, and that the server runs"
    return f"the study's storage cannot be used ({reason}). Check the {check}."


def related_studies(study: optuna.Study) -> list[optuna.Study]:
    """A study, and its finals and conclusions if there are any."""
    others = [load_if_there(study._storage, f"{study.study_name}{kind}") for kind in (FINALS, CONCLUSIONS)]
    return [study, *filter(None, others)]


def load_if_there(storage: BaseStorage, name: str) -> optuna.Study | None:
    """A study by its name, or None."""
    with suppress(KeyError):
        return optuna.load_study(study_name=name, storage=storage)
    return None
