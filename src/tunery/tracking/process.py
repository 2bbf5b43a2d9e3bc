"""A process as others see it: written into the store while it works there, and looked up when it may have died."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def this_process() -> str:
    """This process's host, id and start, as JSON."""
    return json.dumps({"host": host(), "pid": os.getpid(), "started": _started(os.getpid())})


def has_ended(written: str | None) -> bool | None:
    """Whether the process that wrote this has ended; None if it ran on another host, or nobody knows.

    Ids are given again: a process of the same id that started at another time is another one.
    """
    try:
        known = json.loads(written or "")
        if known["host"] != host():
            return None
        started, begun = _started(int(known["pid"])), known.get("started")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return started is None or (begun is not None and abs(started - float(begun)) > 1.0)


def host() -> str:
    """This host and its namespace of process ids: two containers may share a host name."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(space) if space.exists() else ''}".strip()


def _started(pid: int) -> float | None:
    """When a process of this host began, in seconds since 1970; None if there is none, or only its body is left."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None
