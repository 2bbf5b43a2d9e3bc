"""A child ends when its parent is killed, although it is sent no signal and although it swallows the first one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

_CHILD = """
import signal, sys, time
from tunery.search.workers import process_main
process_main._PATIENCE_SECONDS = (0.5, 0.5)
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True) if {deaf} else sys.exit(0))
process_main.follow_parent()
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def family(*, deaf: bool) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A parent and its child in a session of its own, which no terminal reaches."""
    words = [sys.executable, "-c", _PARENT, _CHILD.format(deaf=deaf)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "ready\n"
    try:
        yield parent, child
    finally:
        parent.kill()
        parent.wait()
        if child.is_running():
            child.kill()


@pytest.mark.parametrize("deaf", [False, True])
def test_a_child_ends_after_its_parent_was_killed(deaf: bool) -> None:
    with family(deaf=deaf) as (parent, child):
        parent.send_signal(signal.SIGKILL)
        assert psutil.wait_procs([child], timeout=30)[0] == [child]
        assert parent.stdout is not None
        assert parent.stdout.read().count("asked") == (2 if deaf else 0)
