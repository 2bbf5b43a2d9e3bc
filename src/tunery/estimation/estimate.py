"""How much memory a run needs, from its settings and the base's config alone; nothing is loaded.

The formulas and what they assume: docs/guides/memory.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunery.config.project import Project
from tunery.estimation.architecture import architecture_of
from tunery.estimation.phases import Phases
from tunery.models.device import resolve_device

# Python with torch, transformers, TRL and lm-eval imported: 533 MiB resident, measured on Linux, rounded up. A CUDA
# context with its kernels is taken as 700 MiB: assumed, it depends on card and driver.
RUNTIME_BYTES = {"cpu": 600 * 2**20, "cuda": 700 * 2**20, "mps": 600 * 2**20}
# PyTorch's allocator hands out blocks of 2 MiB and more, and cannot use all of what is free between them.
FRAGMENTATION = 0.05
_MOST_ROWS, _MOST_TOKENS = 2**16, 2**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of training and of evaluation."""

    base: str  # base.model
    architecture: str  # class in transformers
    parameters: int  # weights of the base
    trainable_parameters: int  # weights that are trained
    device: str  # cpu, cuda or mps: the rules that were counted by
    micro_batch_size: int  # rows in one forward pass
    length: int  # tokens a row
    # Bytes by part when training needs most; they add up to `training_bytes`. Empty for a method without training.
    training: Mapping[str, int]
    evaluation: Mapping[str, int]  # the same while validating, scoring or generating between steps
    training_phase: str  # what training does when it needs most
    evaluation_phase: str  # what evaluation does when it needs most

    @property
    def training_bytes(self) -> int:
        """The most that training needs."""
        return sum(self.training.values())

    @property
    def evaluation_bytes(self) -> int:
        """The most that validation, scoring and generation need."""
        return sum(self.evaluation.values())

    @property
    def total_bytes(self) -> int:
        """What must be there: the larger of the two."""
        return max(self.training_bytes, self.evaluation_bytes)


@dataclass(frozen=True)
class Fit:
    """The largest run that fits; 0 where not even one row, or one token, does."""

    micro_batch_size: int  # rows of data.max_length tokens
    length: int  # tokens a row, at the project's micro batch, up to what the base's positions allow
    length_alone: int  # tokens of a single row
    # What keeps each of the three from being larger, in their order: training, validation, scoring or generation, which
    # would need more memory; positions, of which the base has no more; "" for nothing.
    limits: tuple[str, str, str] = ("", "", "")


def estimate(
    project: Project,
    *,
    rows: int | None = None,
    length: int | None = None,
    context: int | None = None,
    device: str = "",
) -> MemoryEstimate:
    """Memory of a run of this project.

    Args:
        project: The settings.
        rows: Instead of training.micro_batch_size.
        length: Tokens of the longest row, where it is known; otherwise data.max_length.
        context: Tokens that a teacher reads before a row, where they are known.
        device: Count for this kind of device (cpu, cuda, mps), whether it is here or not; otherwise training.device.

    Raises:
        BaseModelError: If the base is not there or its architecture unknown.
        ConfigError: If the device is not there, or a target matches nothing.
    """
    arch = architecture_of(project.base, project.folder)
    counted = Phases(project, arch, device or resolve_device(project.training.device), context)
    return _estimate(counted, rows or project.training.micro_batch_size, length or project.data.length(arch.positions))


def largest_fit(project: Project, memory_bytes: int, *, device: str = "") -> Fit:
    """The largest micro batch and the longest rows that fit in so much memory.

    Args:
        project: The settings; the rest of them stays as it is.
        memory_bytes: Of the whole device, or what is free.
        device: As for `estimate`.

    Raises:
        BaseModelError, ConfigError: As `estimate`.
    """
    arch = architecture_of(project.base, project.folder)
    counted = Phases(project, arch, device or resolve_device(project.training.device))
    own_rows, own_length = project.training.micro_batch_size, project.data.length(arch.positions)
    longest = arch.positions or _MOST_TOKENS

    def fits(rows: int, length: int) -> bool:
        return _estimate(counted, rows, length).total_bytes <= memory_bytes

    def limit(rows: int, length: int) -> str:
        if length > longest:
            return "positions" if arch.positions else ""
        needed = _estimate(counted, rows, length)
        if needed.total_bytes <= memory_bytes:  # more than anybody asks for
            return ""
        return "training" if needed.training_bytes > needed.evaluation_bytes else needed.evaluation_phase

    micro_batch_size = _largest(lambda rows: fits(rows, own_length), _MOST_ROWS)
    together = _largest(lambda length: fits(own_rows, length), longest)
    alone = _largest(lambda length: fits(1, length), longest)
    limits = (limit(micro_batch_size + 1, own_length), limit(own_rows, together + 1), limit(1, alone + 1))
    return Fit(micro_batch_size, together, alone, limits)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` that fits, when every smaller one does too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _estimate(counted: Phases, rows: int, length: int) -> MemoryEstimate:
    trains = counted.project.training.trains
    phases, works = counted.training(rows, length) if trains else {}, counted.evaluation(rows, length)
    training_phase = max(phases, key=lambda name: sum(phases[name].values()), default="")
    evaluation_phase = max(works, key=lambda name: works[name])

    def whole(moving: Mapping[str, int]) -> dict[str, int]:
        spare = int(sum(moving.values()) * FRAGMENTATION) if counted.device == "cuda" else 0
        return counted.resident() | dict(moving) | {"runtime": RUNTIME_BYTES[counted.device] + spare}

    return MemoryEstimate(
        base=counted.project.base.model,
        architecture=counted.arch.name,
        parameters=counted.arch.parameter_count,
        trainable_parameters=counted.trained,
        device=counted.device,
        micro_batch_size=rows,
        length=length,
        training=whole(phases[training_phase]) if trains else {},
        evaluation=whole({evaluation_phase: works[evaluation_phase]}),
        training_phase=training_phase,
        evaluation_phase=evaluation_phase,
    )
