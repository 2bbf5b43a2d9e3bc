"""Where a study is kept: one SQLite file for one host, a database server for several."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from tunery.errors import Fault, RefError, StorageError
from tunery.runs.workdir import exclusive
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DEFAULT_FILE = "optuna.db"
_ADDRESS_RULE = "sqlite:///FILE, postgresql://HOST/NAME or mysql://HOST/NAME"
_MYSQL = ({"MySQLdb": "mysqldb", "pymysql": "pymysql"}, "pip install pymysql")
# Of each kind of server: packages that can talk to it, as SQLAlchemy calls them, and how to get one.
_SERVERS = {
    "postgresql": ({"psycopg2": "psycopg2", "psycopg": "psycopg"}, 'pip install "tunery[postgres]"'),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
# A worker on another host shows that it lives so often; after two silences its trial is given to another.
_HEARTBEAT_VARIABLE, _HEARTBEAT_SECONDS = "TUNERY_HEARTBEAT_SECONDS", 30
_ATTEMPTS = 5


def storage_url(given: str | None) -> str:
    """The storage's address; a SQLite file's path is absolute, so that workers find it from any folder.

    Raises:
        StorageError: If it is of a kind that workers cannot share, is no file, or its driver is not installed.
    """
    url = f"sqlite:///{DEFAULT_FILE}" if given is None else given
    if url.startswith("sqlite:///"):
        return f"sqlite:///{_file(url)}"
    if url.partition(":")[0].partition("+")[0] in _SERVERS and "://" in url:
        return _with_driver(url)
    raise _refused(url, _ADDRESS_RULE, "A server is needed for several hosts.")


def _file(url: str) -> Path:
    name = url.removeprefix("sqlite:///")
    if name in ("", ":memory:"):
        advice = f"Try sqlite:///{DEFAULT_FILE}: a study in memory would be gone with the command."
        raise _refused(url, "sqlite:/// and the name of a file", advice)
    file = Path(name).expanduser().resolve()
    if file.is_dir():
        raise _refused(url, "the name of a file, and this is a folder", f"Try sqlite:///{file}/{DEFAULT_FILE}.")
    return file


def _refused(url: str, rule: str, advice: str) -> StorageError:
    return StorageError("storage", Fault("its address", rule, redact(url), advice))


def is_one_host(url: str) -> bool:
    """Whether only processes of this host can use the storage."""
    return url.startswith("sqlite:")


@contextmanager
def held(url: str, study: str) -> Iterator[None]:
    """Keep a second command away from a study in a file: it would take the first one's trials for dead.

    The lock lies beside the file: whoever can reach the one finds the other, from whatever host and home.

    Raises:
        RefError: If another command runs the study now.
    """
    if not is_one_host(url):
        yield
        return
    file = Path(url.removeprefix("sqlite:///"))
    if not file.parent.is_dir():
        yield  # whoever opens the file says so
        return
    name = hashlib.sha256(study.encode()).hexdigest()[:16]
    advice = "More workers: --workers N in one command; several commands or hosts: --storage postgresql://HOST/NAME."
    taken = RefError(f"study {study}", f"another process runs it now. {advice}")
    with exclusive(file.with_name(f"{file.name}.{name}.lock"), taken):
        yield


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage.

    Args:
        url: From storage_url, or grpc://host:port of a proxy in front of it.

    Raises:
        StorageError: If it does not answer or refuses; without a password in the text.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if url.startswith("grpc://"):
        return _proxied(url)
    from sqlalchemy.exc import SQLAlchemyError

    beat = None if is_one_host(url) else int(os.environ.get(_HEARTBEAT_VARIABLE, _HEARTBEAT_SECONDS))
    # One connection is lost now and then when a server restarts: look before using it.
    engine = {"connect_args": {"timeout": 60}} if is_one_host(url) else {"pool_pre_ping": True}
    for left in reversed(range(_ATTEMPTS)):
        try:
            return optuna.storages.RDBStorage(
                url, engine_kwargs=engine, heartbeat_interval=beat, grace_period=None if beat is None else 2 * beat
            )
        except (SQLAlchemyError, OSError, ImportError, RuntimeError) as error:
            # Of two hosts that find an empty database at once, one meets the tables that the other one makes.
            if not left or not _is_taken(error):
                raise StorageError(redact(url), _why(error, url)) from error
            time.sleep(1.0)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn what a storage that went away raises inside into one StorageError, without a password.

    Raises:
        StorageError: If the storage stopped answering.
    """
    try:
        yield
    except away() as error:
        raise StorageError(redact(url), f"{_why(error, url)} The same command goes on with the study.") from error


def away() -> tuple[type[Exception], ...]:
    """What Optuna's storages raise when their database, or the proxy before it, does not answer."""
    import grpc
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, optuna.exceptions.StorageInternalError, grpc.RpcError)


def _proxied(url: str) -> BaseStorage:
    host, _, port = url.removeprefix("grpc://").rpartition(":")
    storage = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    try:
        storage.wait_server_ready(timeout=60)
    except ConnectionError as error:
        raise StorageError(url, "the study's storage does not answer. Start the study again.") from error
    return storage


def _with_driver(url: str) -> str:
    """SQLAlchemy takes postgresql:// for psycopg 3; psycopg2 serves too, whichever is installed."""
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


def _is_taken(error: Exception) -> bool:
    text = str(error).lower()
    return "already exists" in text or "duplicate" in text or "unique" in text


def _why(error: Exception, url: str) -> str:
    reason = " ".join(redact(str(getattr(error, "orig", None) or error)).split())[:300]
    check = "path, and that its folder can be written" if is_one_host(url) else "address, and that the server runs"
    return f"the study's storage cannot be used ({reason}). Check the {check}."
