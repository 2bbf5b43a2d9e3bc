"""A process as others see it: written into the store while it works there, and looked up when it may have died."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path

_BOOT, _MACHINE, _IDS = Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id"), Path("/proc/self/ns/pid")
_START = 19  # place of a process's start in /proc/<id>/stat, counted from its state


def this_process() -> str:
    """This process's host, id and start, as JSON."""
    pid = os.getpid()
    return json.dumps({"host": host(), "boot": _text(_BOOT), "pid": pid, "started": _started(pid)})


def has_ended(written: str | None) -> bool | None:
    """Whether the process that wrote this has ended; None if it ran on another host, or nobody knows.

    Ids are given again: a process of the same id that started at another time is another one.
    """
    try:
        known = json.loads(written or "")
        if known["host"] != host():
            return None
        if known.get("boot", "") != _text(_BOOT):
            return True
        started, begun = _started(int(known["pid"])), known.get("started")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return started is None or (begun is not None and abs(started - float(begun)) > 1.0)


def host() -> str:
    """This host and its namespace of process ids: two containers, or two new machines, may share a host name."""
    machine = hashlib.sha256(f"tunery {_text(_MACHINE)}".encode()).hexdigest()[:8]  # the id itself is confidential
    return f"{socket.gethostname()} {machine} {os.readlink(_IDS) if _IDS.exists() else ''}".strip()


def _started(pid: int) -> float | None:
    """When a process of this host began, in seconds; None if there is none, or only its body is left.

    On Linux since the machine's start: since 1970, it moves whenever the clock is set, and a process that works would
    pass for another one.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if _BOOT.exists():
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return int(state[_START]) / os.sysconf("SC_CLK_TCK")
        return float(process.create_time())
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""
