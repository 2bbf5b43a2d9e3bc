"""How much memory a trial may be estimated to need."""

from __future__ import annotations

from tunery.config.project import Project


def memory_limit(project: Project) -> int | None:
    """search.memory in bytes; by default what the card has. None on a CPU, where memory can be swapped and shared."""
    from tunery.config.units import parse_bytes
    from tunery.estimate.estimate import available_bytes
    from tunery.models.base import resolve_device

    if project.search.memory is not None:
        return parse_bytes(project.search.memory)
    device = resolve_device(project.training.device)
    return available_bytes(device) if device == "cuda" else None
