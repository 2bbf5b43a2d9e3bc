"""Frozen records that cross stages. Stages hand on these and paths, never clients or trainers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCORE = "score"  # the mean over the tasks that count, beside the tasks' own names


@dataclass(frozen=True)
class Message:
    """One turn. `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """One training row, whatever its source's format was; at least one turn is the assistant's.

    Args:
        origin: Where it came from: "rows.jsonl:17", the line of a csv or jsonl file, the row of a sheet
            ("qa.xlsx[QA]:17"), else the row counted from 1.
        source: Index of the source in the project's list.
    """

    messages: tuple[Message, ...]
    origin: str
    source: int = 0


@dataclass(frozen=True)
class Example:
    """A conversation as the model sees it: token ids and whether each is learned, shape (tokens,) both."""

    input_ids: tuple[int, ...]
    trained: tuple[bool, ...]
    truncated: bool = False  # whether tokens were cut away at the end


@dataclass(frozen=True)
class Drop:
    """A row that is not trained on, and why. `origin` names its file and row."""

    origin: str
    reason: str


@dataclass(frozen=True)
class SourceReport:
    """One source as it was found. `digest` is a hash of its content, the lineage that MLflow shows."""

    source: str
    format: str
    rows_read: int
    rows_kept: int
    weight: float
    digest: str


@dataclass(frozen=True)
class DataReport:
    """What became of every row: data/report.json and the table in the terminal.

    Args:
        drops: Every row left out, with its reason ("no answer", "blank", "duplicate of …", "contaminated", ...).
        changed: Rows altered by each cleaning step, by name of the step.
        train_rows, validation_rows: Rows after mixing.
        token_percentiles: Tokens a row at "0", "5", "50", "95", "100" percent.
        truncated: Origins of the rows that were cut at data.max_length.
        target_share: Trained tokens / all tokens.
        contaminated: Origins of rows that share an n-gram with an evaluation item -> the item's task.
        notes: Sentences that a person should read: the detected format, a chat template that was added, ...
    """

    sources: tuple[SourceReport, ...]
    drops: tuple[Drop, ...]
    changed: Mapping[str, int]
    train_rows: int
    validation_rows: int
    train_tokens: int
    token_percentiles: Mapping[str, int]
    truncated: tuple[str, ...]
    target_share: float
    contaminated: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedData:
    """Everything that training and generation need from the data stage."""

    train: Sequence[Example]
    validation: Sequence[Example]
    validation_conversations: Sequence[Conversation]
    report: DataReport


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
    """The end of an optimisation.

    Args:
        folder: The kept checkpoint's adapter files (or full weights).
        kept_by: The rule that chose it.
        history: Every StepMetrics reported, in order.
    """

    folder: Path
    kept_step: int
    kept_by: str
    last_step: int
    train_seconds: float
    peak_memory_bytes: int
    validation_nll: float | None
    history: Sequence[StepMetrics]


@dataclass(frozen=True)
class Score:
    """One number of one task, with its standard error (None where none is defined, never 0)."""

    task: str
    metric: str
    value: float
    stderr: float | None
    items: int
    higher_is_better: bool = True


@dataclass(frozen=True)
class TaskSettings:
    """What must agree for two scores of a task to be comparable.

    Args:
        prompt: Digest of how the task asks and marks, which lm-eval's result files also give; "" if unknown.
            `version` takes it in, with much that only a loaded task knows.
    """

    task: str
    version: str
    few_shot: int
    limit: int | None
    chat_template: bool
    prompt: str = ""


@dataclass(frozen=True)
class TaskResult:
    """A task's scores and its items.

    Args:
        scores: By metric name; `metric.filter` where the task has several of lm-eval's filters.
        samples: One row an item: item_id (hash of task, document and target), split (dev or locked), task (the leaf,
            where a group has several), passage (a name for the text that several items ask about), target, prediction,
            one column a metric (its value on the item), loglikelihoods (list, empty for generation).
        primary: The metric that counts towards the run's score.
    """

    settings: TaskSettings
    scores: Mapping[str, Score]
    samples: pd.DataFrame
    primary: str = ""


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another: above 0 the first is better, whatever the metric's direction.

    Args:
        value: First - second, with the sign turned where less is better.
        low, high: Its confidence interval; NaN if no error is known.
        p_value: Two-sided, for "no difference"; NaN if nothing could be tested.
        test: Name of the test that gave the p-value, or why there is none.
        items: Items that both sides answered; 0 if they were not paired.
        changed: How many of these have another value.
        passages: Texts that the items ask about, where items share texts; the fewest of any task. None otherwise.
        stderr: Standard error of the value; NaN if unknown.
        score, baseline: Mean of the first side and of the second, turned like `value`.
        adjusted: p-value after the correction for all comparisons of its kind; NaN before it.
    """

    value: float
    low: float
    high: float
    p_value: float = math.nan
    test: str = ""
    items: int = 0
    changed: int = 0
    passages: int | None = None
    stderr: float = math.nan
    score: float = math.nan
    baseline: float = math.nan
    adjusted: float = math.nan

    @property
    def is_known(self) -> bool:
        """Whether there is a number to judge, with an interval."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))

    def is_sure(self, confidence: float) -> bool:
        """Whether chance is ruled out at this confidence after the correction; what cannot be tested is not sure."""
        return self.adjusted <= 1 - confidence


@dataclass(frozen=True)
class Generation:
    """One held-out prompt with the reference and both answers."""

    prompt: str
    reference: str
    base: str
    tuned: str


@dataclass(frozen=True)
class BaseIdentity:
    """Which base exactly: scores and adapters belong to this and no other.

    Args:
        model: As the project names it: hub id, folder, builtin:tiny.
        revision: Commit for a hub model; hash of its files for a folder or builtin.
        chat_template: "own", "added ChatML", or the file's name.
    """

    model: str
    revision: str
    quantization: str
    dtype: str
    compute_dtype: str
    chat_template: str
    license: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run's report shows; plain values, so that the report is a pure function of it.

    Args:
        base, tuned: Results by task, on the same items.
        primary: The metric of each task that counts towards the score.
        asked: The metric that is shown of each task that was asked for; empty: those of `primary`.
        split: Which items the headline is computed on: "all", or "locked" when the checkpoint was chosen on dev items.
        base_text, tuned_text: Text metrics on held-out prompts; empty when nothing was generated.
        model_version: "name/3" of the registered version.
    """

    run_id: str
    project: str
    identity: BaseIdentity
    adapter: AdapterFacts | None
    data: DataReport | None
    trained: Trained | None
    base: Mapping[str, TaskResult]
    tuned: Mapping[str, TaskResult]
    primary: Mapping[str, str]
    split: str = "all"
    base_text: Mapping[str, float] = field(default_factory=dict)
    tuned_text: Mapping[str, float] = field(default_factory=dict)
    model_version: str | None = None
    notes: Sequence[str] = ()
    asked: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> Mapping[str, str]:
        """The metric of each task shown in tables and plots."""
        return self.asked or self.primary


@dataclass(frozen=True)
class TrialRow:
    """One trial of a study, as a table shows it.

    Args:
        number: Its place in the study, from 0: the project's own settings.
        state: complete, pruned, failed, running or waiting.
        settings: Searched keys and derived ones, with their values.
        values: Objectives; empty unless complete.
        metrics: All that was measured, on dev items.
        failure: oom, nan, timeout, infeasible, killed or error; `reason` is a sentence for a person.
        name: What differs from the project's settings.
    """

    number: int
    state: str
    settings: Mapping[str, object]
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    feasible: bool = True
    failure: str | None = None
    reason: str | None = None
    run_id: str | None = None
    seconds: float | None = None
    attempts: int = 1
    name: str = ""


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained again with other seeds.

    Args:
        dev: Scores on dev items, one a seed; empty where no task is scored.
        locked: Scores on locked items, one a seed; empty until they were scored.
        values: The first objective, one a seed: what the winner is chosen by.
        further: The other objectives, one value a seed: they decide between equal means of the first.
        refused: Why it cannot win: a bound that it breaks on the mean of its seeds, or a seed that failed.
    """

    trial: int
    name: str
    settings: Mapping[str, object]
    seeds: tuple[int, ...]
    dev: tuple[float, ...]
    locked: tuple[float, ...]
    run_ids: tuple[str, ...]
    own: bool = False
    values: tuple[float, ...] = ()
    further: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """Everything that a study's report shows.

    Args:
        objectives: Metric -> maximize or minimize; the first decides who is a finalist and who wins, each further one
            between those that are equal so far.
        winner: Number of the trial whose configuration has the best mean of the first objective over its seeds.
        base_dev, base_locked: The base's own score.
        over_base, over_own: Gain of the winner on locked items; over_own is None when the project's own settings win.
    """

    name: str
    project: str
    run_id: str
    objectives: Mapping[str, str]
    constraints: Mapping[str, str]
    sampler: str
    pruner: str
    seed: int
    trials: Sequence[TrialRow]
    finalists: Sequence[Finalist] = ()
    winner: int | None = None
    base_dev: float | None = None
    base_locked: float | None = None
    over_base: Difference | None = None
    over_own: Difference | None = None
    model_version: str | None = None
    seconds: float = 0.0
    notes: Sequence[str] = ()
