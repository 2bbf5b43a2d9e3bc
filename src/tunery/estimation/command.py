"""How much memory a run would need, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.load import Overrides, load_project, project_from
from tunery.config.project import Project
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.estimation.estimate import Fit, MemoryEstimate, available_bytes, estimate, largest_fit
from tunery.estimation.table import estimate_table
from tunery.models.device import resolve_device

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class EstimatedRun:
    """What a run needs beside what there is."""

    project: Project  # the settings of the run
    memory: MemoryEstimate  # bytes by part, of training and of evaluation
    largest: Fit  # the largest run that fits
    available_bytes: int  # memory of the card that was named, or of this machine

    def table(self) -> RenderableType:
        """All of it, for a terminal."""
        return estimate_table(self.project, self.memory, self.largest, self.available_bytes)


def estimate_run(project: Project, memory: str | None = None) -> EstimatedRun:
    """What training and evaluation need, and the largest run that fits.

    Args:
        project: The settings.
        memory: Of a card, "24 GiB"; without it, this machine's.

    Raises:
        ConfigError: If `memory` breaks a rule, or the device is missing.
        BaseModelError: If the base is missing or its architecture unknown.
    """
    size = None if memory is None else _size(memory)
    device = _device(project, size)
    available = available_bytes(resolve_device(device)) if size is None else size
    needed = estimate(project, device=device)
    return EstimatedRun(project, needed, largest_fit(project, available, device=device), available)


def settings_of(project: str | None, base: str | None, overrides: Overrides = ()) -> Project:
    """The settings that are estimated.

    Args:
        project: A project's file or folder; without one, the default settings on `base`.
        base: Hub id, folder or builtin:tiny instead of the project's base.
        overrides: Pairs of dotted key and YAML value.

    Raises:
        ConfigError: If the project or an override breaks a rule.
    """
    chosen = [("base.model", base)] if base is not None else []
    if project is not None:
        return load_project(project, [*chosen, *overrides])
    # Nothing is read from the source: only the settings count.
    tree: dict[str, Any] = {"name": "estimate", "base": {"model": base}, "data": {"train": [{"source": "rows.jsonl"}]}}
    return project_from(tree, "estimate", Path.cwd(), overrides)


def _size(memory: str) -> int:
    try:
        return parse_bytes(memory)
    except ValueError:
        raise ConfigError("estimate", Fault("--memory", BYTES_RULE, memory, unit_advice(memory))) from None


def _device(project: Project, memory_bytes: int | None) -> str:
    """A card's size asks about a card, here or not; anything else about this machine."""
    wanted = project.training.device
    if memory_bytes is not None and wanted in ("auto", "cuda"):
        return "cuda"
    return resolve_device(wanted)
