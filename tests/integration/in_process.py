"""The command line run inside the test's process: the exit code and the output that a process of its own would have."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code and what it printed."""

    code: int
    out: str
    err: str


def tunery(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Outcome:
    """Run `tunery` in `folder` with this environment; libraries stay imported from one call to the next.

    Working folder, environment, signal handlers and MLflow's tracking URI are afterwards what they were. An exception
    that the command line lets through, which would end a process with a traceback, ends the test.
    """
    from tunery.cli import main

    out, err = _stream(), _stream()
    with as_own_process(folder, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        _log_to(err)
        try:
            main(list(words))
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, _text(out), _text(err))


@contextlib.contextmanager
def as_own_process(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """In this folder and with this environment; afterwards all is as it was."""
    here, before, uri = Path.cwd(), dict(os.environ), _tracking_uri()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    os.chdir(folder)
    _set_environment(environment, None)
    try:
        yield
    finally:
        os.chdir(here)
        _set_environment(before, uri)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tracking_uri() -> str | None:
    mlflow = sys.modules.get("mlflow")
    return str(mlflow.get_tracking_uri()) if mlflow is not None and mlflow.is_tracking_uri_set() else None


def _set_environment(wanted: Mapping[str, str], uri: str | None) -> None:
    if (mlflow := sys.modules.get("mlflow")) is not None:
        mlflow.set_tracking_uri(uri)  # before the environment, in which MLflow repeats it
    os.environ.clear()
    os.environ.update(wanted)


def _log_to(stream: io.TextIOWrapper) -> None:
    """Libraries keep the stderr of the time when they were imported: what they log belongs to this command."""
    named = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for logger in (logging.root, *named):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = stream  # not setStream, which would flush a stream that may be closed by now


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
