"""What a run is made of: its base, its adapter, its steps, and all that its report shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.records.rows import DataReport
from tunery.records.scores import TaskResult

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class StepMetrics:
    """Values of DESIGN's metrics at one optimizer step, by full name: {"train/loss": 1.2}."""

    step: int
    values: Mapping[str, float]


Report = Callable[[StepMetrics], None]


@dataclass(frozen=True)
class AdapterFacts:
    """What the adapter matched. `modules` are full names; counts are in parameters."""

    modules: tuple[str, ...]
    trainable_parameters: int
    total_parameters: int


@dataclass(frozen=True)
class Trained:
    """The end of an optimisation."""

    folder: Path  # the kept checkpoint's adapter files (or full weights)
    kept_step: int  # optimizer step of the checkpoint that was kept
    kept_by: str  # the rule that chose it
    last_step: int
    train_seconds: float
    peak_memory_bytes: int
    validation_nll: float | None
    history: Sequence[StepMetrics]  # every StepMetrics reported, in order


@dataclass(frozen=True)
class Generation:
    """One held-out prompt with the reference and both answers."""

    prompt: str
    reference: str
    base: str
    tuned: str


@dataclass(frozen=True)
class BaseIdentity:
    """Which base exactly: scores and adapters belong to this and no other."""

    model: str  # as the project names it: hub id, folder, builtin:tiny
    revision: str  # commit for a hub model; hash of its files for a folder or builtin
    quantization: str
    dtype: str
    compute_dtype: str
    chat_template: str  # "own", "added ChatML", or the file's name
    license: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseFit:
    """How well a base predicts the training answers before anything is trained, in nats a learned token."""

    nll: float  # of the answers
    entropy: float  # of its own predictions at the same tokens: what text that it wrote itself would take on average
    vocabulary: int  # tokens that it chooses among
    tokens: int  # learned tokens of the rows that were looked at

    @property
    def guessing(self) -> float:
        """What choosing every token at random would take: ln of the vocabulary."""
        return math.log(self.vocabulary)

    @property
    def is_far(self) -> bool:
        """Whether the answers take more than half of what guessing would: no text that the base was trained on."""
        return self.nll > self.guessing / 2


@dataclass(frozen=True)
class ContextFacts:
    """The solved examples that a run's items were asked after."""

    origins: tuple[str, ...]  # of the rows, in the order in which they are shown
    answers: Mapping[str, int]  # how many examples have each answer
    tokens: int
    text: str  # as the model reads it


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run's report shows; plain values, so that the report is a pure function of it."""

    run_id: str
    project: str
    identity: BaseIdentity
    adapter: AdapterFacts | None
    data: DataReport | None
    trained: Trained | None
    base: Mapping[str, TaskResult]  # by task, on the same items as `tuned`
    tuned: Mapping[str, TaskResult]
    primary: Mapping[str, str]  # the metric of each task that counts towards the score
    # Which items the headline is computed on: "all", or "locked" when the checkpoint was chosen on dev items
    split: str = "all"
    # Text metrics on held-out prompts; empty when nothing was generated.
    base_text: Mapping[str, float] = field(default_factory=dict)
    tuned_text: Mapping[str, float] = field(default_factory=dict)
    model_version: str | None = None  # "name/3" of the registered version
    notes: Sequence[str] = ()
    # The metric that is shown of each task that was asked for; empty: those of `primary`.
    asked: Mapping[str, str] = field(default_factory=dict)
    fit: BaseFit | None = None  # of the base to the training answers, if this run trained
    start: str | None = None  # the adapter that training began with
    parent: Mapping[str, TaskResult] = field(default_factory=dict)  # its results, by task, on the same items
    context: ContextFacts | None = None  # of in-context learning: the base answers as `tuned` after these examples
    teacher: str = ""  # of context distillation: a sentence on what the teacher was and read

    @property
    def side(self) -> str:
        """What stands beside the base: "tuned", or "in context"."""
        return "tuned" if self.context is None else "in context"

    @property
    def shown(self) -> Mapping[str, str]:
        """The metric of each task shown in tables and plots."""
        return self.asked or self.primary
