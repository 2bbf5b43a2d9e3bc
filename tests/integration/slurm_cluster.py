"""A real SLURM of one node on this machine: munged, slurmctld and slurmd with everything of theirs in one folder."""

from __future__ import annotations

import getpass
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.servers import free_port

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
# Debian keeps daemons where only root looks.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Cluster:
    """A SLURM that runs."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": _PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *words: str) -> str:
        """Run one of SLURM's commands; what it printed."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def state(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, ExitCode, Restarts, ..."""
        pairs = [word.partition("=") for word in self.ask("scontrol", "show", "job", job).split() if "=" in word]
        return {key: value for key, _, value in pairs}

    def start_soon(self, job: str) -> None:
        """Begin a job that was requeued; SLURM would let it wait for two minutes.

        Not at once: the end of its first start, which is still to be told, would be taken for that of the second.
        """
        until(lambda: self.state(job)["JobState"] == "PENDING", 60, f"job {job} was not requeued")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+10seconds")


@contextmanager
def slurm_cluster() -> Iterator[Cluster]:
    """A SLURM of one node with two processors, ended with the block, its jobs too; skips where it is not installed."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(f"no SLURM here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    # Not pytest's own folder: munged, which runs as a user of its own, takes none that others are shut out of.
    folder = Path(tempfile.mkdtemp(prefix="tunery-slurm-"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        socket_file = _start_munged(folder, daemons)
        _write_configuration(folder, socket_file)
        cluster = Cluster(folder)
        _start(daemons, ["slurmctld", "-D"], cluster)
        until(lambda: _answers(cluster), 60, "slurmctld did not answer", folder / "slurmctld.log")
        _start(daemons, ["slurmd", "-D", "-N", "n1"], cluster)
        until(lambda: "idle" in cluster.ask("sinfo", "-h", "-o", "%T"), 60, "no node", folder / "slurmd.log")
        try:
            yield cluster
        finally:
            _cancel_all(cluster)
    finally:
        for daemon in reversed(daemons):
            _end(daemon)
        _kill_left(folder)
        shutil.rmtree(folder, ignore_errors=True)


def until(met: Callable[[], bool], seconds: float, otherwise: str, log: Path | None = None) -> None:
    """Wait for something; fail with the end of a log if it does not come."""
    last = time.monotonic() + seconds
    while not met():
        if time.monotonic() > last:
            told = log.read_text(errors="replace")[-4000:] if log is not None and log.exists() else ""
            pytest.fail(f"{otherwise} within {seconds:.0f} s\n{told}")
        time.sleep(0.2)


def _start_munged(folder: Path, daemons: list[subprocess.Popen[bytes]]) -> Path:
    """As the user munge where this is root, who may not run it; else as oneself, which is enough for one node."""
    place = folder / "munge"
    place.mkdir(mode=0o755)
    key = place / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    user = None
    if os.geteuid() == 0:
        with suppress(KeyError):
            user = pwd.getpwnam("munge").pw_name
    if user is not None:
        for path in (place, key):
            shutil.chown(path, user)
    named = {"key-file": key, "socket": place / "socket", "pid-file": place / "pid", "log-file": place / "log"}
    options = [f"--{option}={path}" for option, path in {**named, "seed-file": place / "seed"}.items()]
    words = [str(shutil.which("munged", path=_PATH)), "--foreground", *options]
    daemons.append(subprocess.Popen(words, user=user, start_new_session=True, stderr=subprocess.DEVNULL))
    until((place / "socket").exists, 30, "munged did not start", place / "log")
    return place / "socket"


def _write_configuration(folder: Path, munge_socket: Path) -> None:
    """Containers have no cgroups to give away: processes are found by their parents, and pinned to nothing."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    me = getpass.getuser()
    lines = {
        "ClusterName": "tunery",
        "SlurmctldHost": "localhost(127.0.0.1)",
        "SlurmctldPort": free_port(),
        "SlurmdPort": free_port(),
        "AuthInfo": f"socket={munge_socket}",
        "SlurmUser": me,
        "SlurmdUser": me,
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "MpiDefault": "none",
        "ReturnToService": 2,
        # A worker under a test has more to do than under a cluster's 30 s: two processors are shared by all.
        "KillWait": 60,
    }
    node = f"NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={socket.gethostname()} CPUs=2 State=UNKNOWN"
    partition = "PartitionName=all Nodes=n1 Default=YES State=UP OverSubscribe=FORCE:2"
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    (folder / "slurm.conf").write_text(f"{text}{node}\n{partition}\n", encoding="utf-8")


def _start(daemons: list[subprocess.Popen[bytes]], words: Sequence[str], cluster: Cluster) -> None:
    daemons.append(
        subprocess.Popen(
            [str(shutil.which(words[0], path=_PATH)), *words[1:]],
            env={**os.environ, **cluster.environment}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    )  # fmt: skip


def _answers(cluster: Cluster) -> bool:
    words = ["scontrol", "ping"]
    env = {**os.environ, **cluster.environment}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    return "UP" in done.stdout


def _cancel_all(cluster: Cluster) -> None:
    with suppress(AssertionError, subprocess.TimeoutExpired):
        cluster.ask("scancel", "--partition=all")
        last = time.monotonic() + 30
        while cluster.ask("squeue", "-h").strip() and time.monotonic() < last:
            time.sleep(0.5)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _kill_left(folder: Path) -> None:
    """What a test that failed left of its jobs: SLURM's own supervisors of them wait for a slurmctld for minutes."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = f"SLURM_CONF={folder}/".encode() in (entry / "environ").read_bytes()
            # A supervisor blanks its environment; it keeps slurmd's log open.
            if told or any(os.readlink(file).startswith(f"{folder}/") for file in (entry / "fd").iterdir()):
                os.kill(int(entry.name), signal.SIGKILL)
