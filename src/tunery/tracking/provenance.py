"""What a result came from: code, packages, machine, command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

_LONGEST_DIFF_CHARACTERS = 2_000_000
_GIT_SECONDS = 10
Diff = Literal["full", "names", "off"]


@dataclass(frozen=True)
class Provenance:
    """Where a run came from."""

    commit: str | None  # git commit of the working folder, None outside a repository
    # Whether tracked files differ from the commit or untracked ones are there; None outside a repository.
    dirty: bool | None
    diff: str | None  # as tracking.diff says: `git diff HEAD` and untracked names, names alone, or None
    packages: str  # one `name==version` a line, as pip freeze has it
    hardware: dict[str, Any]
    command: tuple[str, ...]

    @property
    def tags(self) -> dict[str, str]:
        """The part that runs are searched by."""
        if self.commit is None:
            return {}
        return {"mlflow.source.git.commit": self.commit, "tunery.git_dirty": str(self.dirty).lower()}

    def hardware_tags(self, device: str) -> dict[str, str]:
        """The machine as tags: a speed means nothing without it.

        Args:
            device: Where a model is: cpu, cuda or mps.
        """
        facts = self.hardware
        threads = facts.get("threads", facts["cores"])
        cpu = f"{facts['processor']}, {threads} {'thread' if threads == 1 else 'threads'}"
        accelerators = [one["name"] for one in facts["accelerators"]]
        return {
            "tunery.device": accelerators[0] if device != "cpu" and accelerators else cpu,
            "tunery.accelerators": ", ".join(accelerators) or "none",
            "tunery.processor": cpu,
            "tunery.torch": str(facts.get("torch", "")),
        }

    def artifacts(self) -> dict[str, str]:
        """The part that is read, by file name."""
        texts = {
            "provenance/pip-freeze.txt": self.packages,
            "provenance/hardware.json": json.dumps(self.hardware, indent=2) + "\n",
            "provenance/command.json": json.dumps(list(self.command), indent=2) + "\n",
        }
        return {**texts, "provenance/dirty.diff": self.diff} if self.dirty and self.diff is not None else texts


def collect(folder: Path | None = None, diff: Diff = "full") -> Provenance:
    """Look at this process: its packages, machine, command, and the git repository of a folder or the working one.

    `diff` is the project's tracking.diff: how much is kept of changes that are not committed.
    """
    place = folder or Path.cwd()
    commit = _git(place, "rev-parse", "HEAD")
    status = _git(place, "status", "--porcelain") if commit else None
    dirty = None if status is None else bool(status)
    changes = _changes(place, status, names_only=diff == "names") if status and diff != "off" else None
    return Provenance(commit, dirty, changes, _packages(), _hardware(), tuple(sys.argv))


def _changes(folder: Path, status: str, *, names_only: bool) -> str:
    """What differs from the commit: the diff or the names of its files, then the names of untracked files."""
    # As git itself writes it: a person's own program would write no diff, and a textconv of sops decrypts secrets.
    plain = ("--no-color", "--no-ext-diff", "--no-textconv")
    changes = _git(folder, "diff", *plain, "HEAD", *(["--name-status"] if names_only else [])) or ""
    if len(changes) > _LONGEST_DIFF_CHARACTERS:
        changes = f"{changes[:_LONGEST_DIFF_CHARACTERS]}\n# cut here: the whole diff has {len(changes)} characters"
    untracked = [line[3:] for line in status.splitlines() if line.startswith("??")]
    return changes + "\n" + "".join(f"# untracked: {name}\n" for name in untracked)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=_GIT_SECONDS, check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", errors="replace").rstrip("\n") if done.returncode == 0 else None


@cache
def _packages() -> str:
    """Read once a process, which keeps what it has imported; two hundred packages take a second."""
    found = {dist.name: _frozen(dist) for dist in metadata.distributions() if dist.name}
    return "".join(f"{line}\n" for _, line in sorted(found.items(), key=lambda entry: entry[0].lower()))


def _frozen(dist: metadata.Distribution) -> str:
    """As pip freeze has it: a package that came from an address names that address."""
    origin = dist.read_text("direct_url.json")
    if origin is None:
        return f"{dist.name}=={dist.version}"
    where = json.loads(origin)
    commit = where.get("vcs_info", {}).get("commit_id")
    prefix = f"{where['vcs_info']['vcs']}+" if commit else ""
    return f"{dist.name} @ {prefix}{where['url']}{f'@{commit}' if commit else ''}"


def _hardware() -> dict[str, Any]:
    import psutil

    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": [],
    }
    # Only asked when torch is loaded anyway: importing it takes seconds.
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch"] = torch.__version__
        facts["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
            facts["accelerators"] = [
                {
                    "name": gpu.name,
                    "memory_bytes": gpu.total_memory,
                    "capability": f"{gpu.major}.{gpu.minor}",
                    "cuda": torch.version.cuda,
                }
                for gpu in gpus
            ]
        elif torch.backends.mps.is_available():
            facts["accelerators"] = [{"name": "Apple MPS"}]
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
