"""Processes of `tunery` that begin with its libraries imported, forked from one that imported them and did no more.

They are processes like any other: with a number of their own, to be sent signals, killed, and run two at once; but they
need none of the seconds of a fresh interpreter. The start as a user makes it, `python -m tunery`, is `Place.process`.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socketserver
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.integration.libraries"])


class Command:
    """A command that runs, as `subprocess.Popen` would show it; what it prints goes to two files, or to one.

    Args:
        words: What stands behind `tunery`.
        out: Takes its standard output.
        err: Takes its standard error; None: `out` takes that, too.
        trap: Called in the process before the command.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        out: Path,
        err: Path | None = None,
        trap: Callable[[], None] | None = None,
    ) -> None:
        for file in (out, err):
            if file is not None:
                file.write_bytes(b"")  # what an earlier command printed is not this one's
        job = (list(words), str(folder), dict(environment), str(out), str(err or ""), trap)
        self._process = _FORKED.Process(target=_run, args=job)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number if one ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    words: list[str], folder: str, environment: dict[str, str], out: str, err: str, trap: Callable[[], None] | None
) -> None:
    from tunery.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["tunery", *words]
    _write_to(out, 1)
    if err:
        _write_to(err, 2)
    else:
        os.dup2(1, 2)
    if trap is not None:
        trap()
    main(words)


def _write_to(path: str, descriptor: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, descriptor)
    os.close(file)


# Stands for `tunery` in a shell's script: asks for a warm process, and prints what that printed. As `python`, it does
# so for `-m tunery`, and is this Python for all else.
_STAND_IN = """#!{python}
import json, os, pathlib, socket, sys, tempfile
words = sys.argv[1:]
if os.path.basename(sys.argv[0]) == "python":
    if words[:2] != ["-m", "tunery"]:
        os.execv({python!r}, [{python!r}, *words])
    words = words[2:]
with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as asked:
    out, err = os.path.join(folder, "out"), os.path.join(folder, "err")
    asked.connect({address!r})
    job = dict(words=words, folder=os.getcwd(), environment=dict(os.environ), out=out, err=err)
    asked.sendall(json.dumps(job).encode() + b"\\n")
    code = int(asked.makefile().read())
    sys.stdout.write(pathlib.Path(out).read_text(encoding="utf-8"))
    sys.stderr.write(pathlib.Path(err).read_text(encoding="utf-8"))
sys.exit(code)
"""


@contextlib.contextmanager
def programs() -> Iterator[Path]:
    """A folder with programs `python` and `tunery` for shell scripts, whose commands run in warm processes."""
    with tempfile.TemporaryDirectory() as name:  # a socket's path must be short
        folder = Path(name)
        address = str(folder / "socket")
        for program in ("python", "tunery"):
            (folder / program).write_text(_STAND_IN.format(python=sys.executable, address=address), encoding="utf-8")
            (folder / program).chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(address, _Asked) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield folder
            server.shutdown()


class _Asked(socketserver.StreamRequestHandler):
    """One command: a line of JSON says which, and its exit code is the answer."""

    def handle(self) -> None:
        job = json.loads(self.rfile.readline())
        command = Command(job["words"], Path(job["folder"]), job["environment"], Path(job["out"]), Path(job["err"]))
        self.wfile.write(str(command.wait()).encode())
