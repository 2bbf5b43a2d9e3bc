"""The memory estimate as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.project import Project
from tunery.config.units import format_bytes

if TYPE_CHECKING:
    from tunery.estimation.estimate import Fit, MemoryEstimate

_PARTS = {
    "weights": "the base's, as they are stored",
    "adapter": "trained weights, in fp32",
    "optimizer": "its states",
    "gradients": "of what is trained, in fp32",
    "activations": "kept for the backward pass",
    "logits": "one tile of them, and the loss",
    "workspace": "gradients of one layer's tensors, expanded weights",
    "validation": "logits of a validation batch",
    "scoring": "logits of a batch of evaluation items",
    "generation": "key/value cache of a batch of answers",
    "runtime": "libraries, and what the allocator cannot use",
}

_LIMITS = {
    "training": "training limits it",
    "validation": "validation limits it",
    "scoring": "scoring limits it: evaluation.batch_size",
    "generation": "generation limits it: evaluation.batch_size",
    "positions": "the base takes no more",
}


def estimate_table(project: Project, estimate: MemoryEstimate, fit: Fit, memory_bytes: int) -> RenderableType:
    """Bytes by part, whether they fit, and what is the largest that would.

    Args:
        project: The settings that were counted.
        estimate: Their estimate.
        fit: The largest run in `memory_bytes`.
        memory_bytes: Of the device.
    """
    return Group(
        _heading(estimate),
        _parts(project, estimate),
        _verdict(project, estimate, memory_bytes),
        _largest(estimate, fit),
    )


def _heading(estimate: MemoryEstimate) -> Text:
    share = estimate.trainable_parameters / estimate.parameters
    size = f"{_count(estimate.parameters)} weights, {_count(estimate.trainable_parameters)} trained ({share:.2%})"
    batch = f"{estimate.micro_batch_size} x {estimate.length} tokens on {estimate.device}"
    return Text(f"{estimate.base}: {estimate.architecture}, {size}; {batch}", style="bold")


def _parts(project: Project, estimate: MemoryEstimate) -> Table:
    table = Table()
    table.add_column("part")
    table.add_column("training", justify="right")
    table.add_column("evaluation", justify="right")
    table.add_column("what it is")
    for part, what in _PARTS.items():
        sizes = (estimate.training.get(part, 0), estimate.evaluation.get(part, 0))
        if any(sizes):
            table.add_row(part, *(format_bytes(size) if size else "" for size in sizes), _note(part, what, project))
    table.add_section()
    totals = (estimate.training_bytes, estimate.evaluation_bytes)
    phases = f"when {estimate.training_phase} / during {estimate.evaluation_phase}"
    table.add_row("in all", *map(format_bytes, totals), phases, style="bold")
    return table


def _note(part: str, what: str, project: Project) -> str:
    notes = {
        "weights": project.base.quantization if project.base.quantization != "none" else "not quantised",
        "optimizer": project.training.optimizer,
        "activations": "one layer's at a time" if project.training.gradient_checkpointing else "",
    }
    return f"{what} ({notes[part]})" if notes.get(part) else what


def _verdict(project: Project, estimate: MemoryEstimate, memory_bytes: int) -> Text:
    room = memory_bytes - estimate.total_bytes
    have = f"{format_bytes(estimate.total_bytes)} of {format_bytes(memory_bytes)}"
    if room >= 0:
        return Text(f"Fits: {have}, {format_bytes(room)} to spare.", style="bold green")
    ways = ", ".join(_ways(project, estimate, memory_bytes))
    return Text(f"Does not fit: {have}, {format_bytes(-room)} too much. To lower it: {ways}.", style="bold red")


def _ways(project: Project, estimate: MemoryEstimate, memory_bytes: int) -> Iterator[str]:
    if estimate.evaluation_bytes > memory_bytes:
        if estimate.evaluation_phase == "validation":
            yield "lower training.micro_batch_size (validation uses it too)"
        else:
            yield "lower evaluation.batch_size"
    if estimate.training_bytes > memory_bytes:
        if not project.training.gradient_checkpointing:
            yield "training.gradient_checkpointing: true"
        if estimate.micro_batch_size > 1 and estimate.evaluation_bytes <= memory_bytes:
            yield "a smaller training.micro_batch_size with more training.gradient_accumulation_steps"
        if project.adapter.method == "full":
            yield "adapter.method: lora"
        elif project.base.quantization == "none":
            yield "base.quantization: nf4"
        if project.adapter.dora and project.adapter.dropout > 0:
            yield "adapter.dropout: 0 (DoRA with dropout keeps expanded weights)"
    yield "a smaller data.max_length"


def _largest(estimate: MemoryEstimate, fit: Fit) -> Text:
    if not fit.length_alone:
        return Text("Not even one row of one token fits.")
    by_rows, together, alone = (f" ({_LIMITS[limit]})" if limit else "" for limit in fit.limits)
    rows = (
        f"Largest micro batch at {estimate.length} tokens: {fit.micro_batch_size}{by_rows}."
        if fit.micro_batch_size
        else f"Not one row of {estimate.length} tokens fits{by_rows}."
    )
    own = (
        f" Longest rows at micro batch {estimate.micro_batch_size}: {fit.length} tokens{together};"
        if fit.length
        else " Longest rows:"
    )
    return Text(f"{rows}{own} alone in a batch: {fit.length_alone} tokens{alone}.")


def _count(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)
