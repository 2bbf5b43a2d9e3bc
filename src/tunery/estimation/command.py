"""`tunery estimate`: how much memory a run would need, before it starts, and that as a table for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.config.load import Overrides, load_project, project_from
from tunery.config.project import Project
from tunery.config.units import BYTES_RULE, format_bytes, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.estimation.estimate import Fit, MemoryEstimate, estimate, largest_fit
from tunery.estimation.offload import refuse_offload
from tunery.estimation.phases import ITEM_TOKENS
from tunery.models.device import available_bytes, resolve_device

_PARTS = {
    "weights": "the base's, as they are stored",
    "adapter": "trained weights, in fp32",
    "optimizer": "its states",
    "gradients": "of what is trained, in fp32",
    "activations": "kept for the backward pass",
    "logits": "one tile of them, and the loss",
    "teacher": "its pass over a row and its context, without gradients",
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

    def next_step(self, project: str | None) -> str:
        """What to do with it; nothing of it is kept. `project` is its folder, if it has one."""
        if self.memory.total_bytes > self.available_bytes:
            return "nothing was loaded or kept; next: lower what is named above, and estimate again"
        folder = "FOLDER" if project is None else shlex.quote(project)
        return f"nothing was loaded or kept; next: tunery train --project {folder}, with the same options"


def settings_of(project: str | None, base: str | None, overrides: Overrides = ()) -> Project:
    """The settings that are estimated.

    Args:
        project: A project's file or folder; without one, the default settings on `base`.
        base: Hub id, folder or builtin:tiny instead of the project's base.
        overrides: Pairs of dotted key and YAML value.

    Raises:
        ConfigError: If the project or an override breaks a rule.
    """
    if project is not None:
        return load_project(project, [*([("base.model", base)] if base is not None else []), *overrides])
    # Nothing is read from the source: only the settings count.
    tree: dict[str, Any] = {"name": "estimate", "base": {"model": base}, "data": {"train": [{"source": "rows.jsonl"}]}}
    return project_from(tree, "estimate", Path.cwd(), overrides)


def estimate_run(project: Project, memory: str | None = None) -> EstimatedRun:
    """What training and evaluation need, and the largest run that fits.

    Args:
        project: The settings.
        memory: Of a card, "24 GiB", here or not; without it, this machine's.

    Raises:
        ConfigError: If `memory` breaks a rule, the device is missing, or base.offload is set.
        BaseModelError: If the base is missing or its architecture unknown.
    """
    refuse_offload(project, "a training is counted, and no gradient comes through layers that are offloaded")
    wanted = project.training.device
    if memory is None:
        device = resolve_device(wanted)
        available = available_bytes(device)
    else:
        try:
            available = parse_bytes(memory)
        except ValueError:
            raise ConfigError("estimate", Fault("--memory", BYTES_RULE, memory, unit_advice(memory))) from None
        device = "cuda" if wanted in ("auto", "cuda") else resolve_device(wanted)
    needed = estimate(project, device=device)
    return EstimatedRun(project, needed, largest_fit(project, available, device=device), available)


def estimate_table(project: Project, needed: MemoryEstimate, fit: Fit, memory_bytes: int) -> RenderableType:
    """Bytes by part, whether they fit, and what is the largest that would.

    Args:
        project: The settings that were counted.
        needed: Their estimate.
        fit: The largest run in `memory_bytes`.
        memory_bytes: Of the device.
    """
    told: list[RenderableType] = [_parts(project, needed), _verdict(project, needed, memory_bytes)]
    if not project.training.trains:
        return Group(_heading_in_context(project, needed), *told)
    return Group(_heading(needed), *told, _largest(needed, fit))


def _heading(needed: MemoryEstimate) -> Text:
    share = needed.trainable_parameters / needed.parameters
    size = f"{_count(needed.parameters)} weights, {_count(needed.trainable_parameters)} trained ({share:.2%})"
    batch = f"{needed.micro_batch_size} x {needed.length} tokens on {needed.device}"
    return Text(f"{needed.base}: {needed.architecture}, {size}; {batch}", style="bold")


def _heading_in_context(project: Project, needed: MemoryEstimate) -> Text:
    examples = project.training.in_context.examples
    each = f"{project.evaluation.batch_size} items, each after {examples} examples of {ITEM_TOKENS} tokens"
    size = f"{_count(needed.parameters)} weights, none trained"
    return Text(f"{needed.base}: {needed.architecture}, {size}; {each}, on {needed.device}", style="bold")


def _parts(project: Project, needed: MemoryEstimate) -> Table:
    table = Table()
    table.add_column("part")
    trains = project.training.trains
    for phase in ("training", "evaluation") if trains else ("evaluation",):
        table.add_column(phase, justify="right")
    table.add_column("what it is")
    for part, what in _PARTS.items():
        sizes = [*([needed.training.get(part, 0)] if trains else []), needed.evaluation.get(part, 0)]
        if any(sizes):
            table.add_row(part, *(format_bytes(size) if size else "" for size in sizes), _note(part, what, project))
    table.add_section()
    totals = [*([needed.training_bytes] if trains else []), needed.evaluation_bytes]
    phases = f"{f'when {needed.training_phase} / ' if trains else ''}during {needed.evaluation_phase}"
    table.add_row("in all", *map(format_bytes, totals), phases, style="bold")
    return table


def _note(part: str, what: str, project: Project) -> str:
    if part == "logits" and project.training.distils is not None:
        return "the teacher's and the student's, of every token"
    notes = {
        "weights": project.base.quantization if project.base.quantization != "none" else "not quantised",
        "optimizer": project.training.optimizer,
        "activations": "one layer's at a time" if project.training.gradient_checkpointing else "",
    }
    return f"{what} ({notes[part]})" if notes.get(part) else what


def _verdict(project: Project, needed: MemoryEstimate, memory_bytes: int) -> Text:
    room = memory_bytes - needed.total_bytes
    have = f"{format_bytes(needed.total_bytes)} of {format_bytes(memory_bytes)}"
    if room >= 0:
        return Text(f"Fits: {have}, {format_bytes(room)} to spare.", style="bold green")
    ways = ", ".join(_ways(project, needed, memory_bytes))
    return Text(f"Does not fit: {have}, {format_bytes(-room)} too much. To lower it: {ways}.", style="bold red")


def _ways(project: Project, needed: MemoryEstimate, memory_bytes: int) -> Iterator[str]:
    if needed.evaluation_bytes > memory_bytes:
        if needed.evaluation_phase == "validation":
            yield "lower training.micro_batch_size (validation uses it too)"
        else:
            yield "lower evaluation.batch_size"
    if not project.training.trains:
        yield "fewer training.icl.examples"
        if project.base.quantization == "none":
            yield "base.quantization: nf4"
        return
    if needed.training_bytes > memory_bytes:
        if not project.training.gradient_checkpointing:
            yield "training.gradient_checkpointing: true"
        if needed.micro_batch_size > 1 and needed.evaluation_bytes <= memory_bytes:
            yield "a smaller training.micro_batch_size with more training.gradient_accumulation_steps"
        if project.adapter.method == "full":
            yield "adapter.method: lora"
        elif project.base.quantization == "none":
            yield "base.quantization: nf4"
        if project.adapter.dora and project.adapter.dropout > 0:
            yield "adapter.dropout: 0 (DoRA with dropout keeps expanded weights)"
    yield "a smaller data.max_length"


def _largest(needed: MemoryEstimate, fit: Fit) -> Text:
    if not fit.length_alone:
        return Text("Not even one row of one token fits.")
    by_rows, together, alone = (f" ({_LIMITS[limit]})" if limit else "" for limit in fit.limits)
    rows = (
        f"Largest micro batch at {needed.length} tokens: {fit.micro_batch_size}{by_rows}."
        if fit.micro_batch_size
        else f"Not one row of {needed.length} tokens fits{by_rows}."
    )
    own = (
        f" Longest rows at micro batch {needed.micro_batch_size}: {fit.length} tokens{together};"
        if fit.length
        else " Longest rows:"
    )
    return Text(f"{rows}{own} alone in a batch: {fit.length_alone} tokens{alone}.")


def _count(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)
