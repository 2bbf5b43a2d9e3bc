"""How much memory a run would need, before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.load import Overrides, load_project, project_from
from tunery.config.project import Project
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.estimation.estimate import available_bytes, estimate, largest_fit
from tunery.estimation.table import estimate_table
from tunery.models.device import resolve_device

if TYPE_CHECKING:
    from rich.console import RenderableType


def estimate_run(
    project: str | None, base: str | None, memory: str | None, overrides: Overrides = ()
) -> RenderableType:
    """A table of what training and evaluation need, and of the largest run that fits.

    Args:
        project: A project's file or folder; without one, the default settings on `base`.
        base: Hub id, folder or builtin:tiny instead of the project's base.
        memory: Of a card, "24 GiB"; without it, this machine's.
        overrides: Pairs of dotted key and YAML value.

    Raises:
        ConfigError: If the project, an override or `memory` breaks a rule.
        BaseModelError: If the base is not there or its architecture unknown.
    """
    size = None if memory is None else _size(memory)
    loaded = _project(project, base, overrides)
    device = _device(loaded, size)
    have = available_bytes(resolve_device(device)) if size is None else size
    needed = estimate(loaded, device=device)
    return estimate_table(loaded, needed, largest_fit(loaded, have, device=device), have)


def _size(memory: str) -> int:
    try:
        return parse_bytes(memory)
    except ValueError:
        raise ConfigError("estimate", Fault("--memory", BYTES_RULE, memory, unit_advice(memory))) from None


def _project(project: str | None, base: str | None, overrides: Overrides) -> Project:
    chosen = [("base.model", base)] if base is not None else []
    if project is not None:
        return load_project(project, [*chosen, *overrides])
    # Nothing is read from the source: only the settings count.
    tree: dict[str, Any] = {"name": "estimate", "base": {"model": base}, "data": {"train": [{"source": "rows.jsonl"}]}}
    return project_from(tree, "estimate", Path.cwd(), overrides)


def _device(project: Project, memory_bytes: int | None) -> str:
    """A card's size asks about a card, here or not; anything else about this machine."""
    wanted = project.training.device
    if memory_bytes is not None and wanted in ("auto", "cuda"):
        return "cuda"
    return resolve_device(wanted)
