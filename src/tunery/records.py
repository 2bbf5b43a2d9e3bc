"""Frozen records that cross stages. Stages hand on these and paths, never clients or trainers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

SCORE = "score"  # the mean over the tasks that count, beside the tasks' own names
FEWEST_RANKED = 5  # of four pairs, even a perfect order has p = 2 / 4! = 0.083: nothing could be found
ALIKE = 0.95  # share of the items from which on a model all but always answers alike


@dataclass(frozen=True)
class Message:
    """One turn. `role` is system, user, assistant or tool."""

    role: str
    content: str
    learned: bool = True  # False for an answer that is shown to the model and not learned
    reasoning: str = ""  # what an assistant thought before it answered
    tool_calls: tuple[str, ...] = ()  # an assistant's, each as JSON: {"name": ..., "arguments": {...}}


@dataclass(frozen=True)
class Conversation:
    """One training row, whatever its source's format was; at least one turn is the assistant's."""

    messages: tuple[Message, ...]
    # "rows.jsonl:17", the line of a csv or jsonl file where the row begins; "qa.xlsx[QA]:17", the row number that the
    # spreadsheet program shows; otherwise the row counted from 1.
    origin: str
    source: int = 0  # index of the source in the project's list
    # The tools that can be called, as a JSON list of OpenAI's form: {"type": "function", "function": {...}}.
    tools: str = ""


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
    role: Literal["training", "validation"] = "training"


@dataclass(frozen=True)
class DataReport:
    """What became of every row: data/report.json and the table in the terminal."""

    sources: tuple[SourceReport, ...]
    # Every row left out, with its reason ("no answer", "blank", "duplicate of …", "contaminated", ...)
    drops: tuple[Drop, ...]
    changed: Mapping[str, int]  # rows altered by each cleaning step, by name of the step
    train_rows: int  # after mixing
    validation_rows: int
    train_tokens: int
    token_percentiles: Mapping[str, int]  # tokens a row at "0", "5", "50", "95", "100" percent
    truncated: tuple[str, ...]  # origins of the rows that were cut at data.max_length
    target_share: float  # trained tokens / all tokens
    contaminated: Mapping[str, str]  # origins of rows that share an n-gram with an evaluation item -> the item's task
    # Sentences that a person should read: the detected format, a chat template that was added, ...
    notes: tuple[str, ...] = ()
    max_length: int = 0  # tokens at which rows were cut
    # Columns and keys of turns that were not used, with their source -> rows or turns that had a value there.
    unused: Mapping[str, int] = field(default_factory=dict)
    # Rows that the project does not ask for, by source and key (`where`, `sample`).
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedItems:
    """What a project's tasks ask, as far as the data stage looks at it; by leaf task."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what each item asks
    # White space between prompt and scored answer, of tasks that score given answers without a chat template.
    joins: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict
    )  # of sets of answers: (prompt, reference)


@dataclass(frozen=True)
class PreparedData:
    """Everything that training and generation need from the data stage."""

    train: Sequence[Example]
    validation: Sequence[Example]
    validation_conversations: Sequence[Conversation]
    report: DataReport
    train_conversations: Sequence[Conversation] = ()  # the rows of `train`, each once, whatever their weights
    train_places: Sequence[int] = ()  # of each example of `train`, the place of its row in `train_conversations`


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
    """What must agree for two scores of a task to be comparable."""

    task: str
    version: str
    few_shot: int
    limit: int | None
    chat_template: bool
    # Digest of how the task asks and marks, which lm-eval's result files also give; "" if unknown. `version` takes it
    # in, with much that only a loaded task knows.
    prompt: str = ""
    members: str = ""  # versions of a group's tasks, which may change while the group's own stays; "" of a task
    # Digest of the prompts where data.prompt_template makes them: a base scores otherwise in other words, but the rows
    # are the same task for models that were taught in other words. "" where the task itself says how it asks.
    wording: str = ""


@dataclass(frozen=True)
class TaskResult:
    """A task's scores and its items."""

    settings: TaskSettings
    scores: Mapping[str, Score]  # by metric name; `metric.filter` where the task has several of lm-eval's filters
    # One row an item: item_id (hash of task, document and target), split (dev or locked), task (the leaf, where a group
    # has several), passage (a name for the text that several items ask about), question, target, prediction, one column
    # a metric (its value on the item), raw_answers (what was written before the filters, one text a repeat; empty where
    # nothing is written), options (texts of a multiple choice), loglikelihoods (one an option; empty for generation),
    # and cut_tokens (that the prompt lost at its beginning) of a task that lost some.
    samples: pd.DataFrame
    primary: str = ""  # the metric that counts towards the run's score


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another: above 0 the first is better, whatever the metric's direction."""

    value: float  # first - second, with the sign turned where less is better
    low: float  # its confidence interval; NaN if no error is known
    high: float
    p_value: float = math.nan  # two-sided, for "no difference"; NaN if nothing could be tested
    test: str = ""  # name of the test that gave the p-value, or why there is none
    items: int = 0  # items that both sides answered; 0 if they were not paired
    changed: int = 0  # how many of these have another value
    # Texts that the items ask about, where items share texts; the fewest of any task. None otherwise.
    passages: int | None = None
    stderr: float = math.nan  # standard error of the value; NaN if unknown
    score: float = math.nan  # mean of the first side, turned like `value`
    baseline: float = math.nan  # mean of the second side, likewise
    adjusted: float = math.nan  # p-value after the correction for all comparisons of its kind; NaN before it

    @property
    def is_known(self) -> bool:
        """Whether there is a number to judge, with an interval."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))

    def is_sure(self, confidence: float) -> bool:
        """Whether chance is ruled out at this confidence after the correction; what cannot be tested is not sure."""
        return self.adjusted <= 1 - confidence


@dataclass(frozen=True)
class ChosenAnswers:
    """How often a model chose each answer of a multiple-choice task, beside giving one answer to every item."""

    task: str
    metric: str
    chosen: Mapping[str, int]  # items by the answer that was chosen, the most frequent first: {"no": 190, "yes": 10}
    majority: str  # the answer that is right most often
    score: float
    majority_score: float  # the score of giving the majority answer to every item, averaged as the score is
    difference: Difference  # score - majority_score, item by item

    @property
    def items(self) -> int:
        """How many items were answered."""
        return sum(self.chosen.values())

    @property
    def is_one_answer(self) -> bool:
        """Whether the model all but always answers alike, and is not surely better than always doing so."""
        alike = max(self.chosen.values()) >= ALIKE * self.items
        return alike and not self.difference.low > 0

    @property
    def beats_majority(self) -> bool:
        """Whether the score is above that of the majority answer, by chance or not."""
        return self.score > self.majority_score


@dataclass(frozen=True)
class ChangedAnswers:
    """On how many items of a task a model answers otherwise than its base: another option, or another text."""

    task: str
    changed: int
    items: int  # that both answered, over all seeds


@dataclass(frozen=True)
class RankCorrelation:
    """How the order of checkpoints or trials by validation loss goes with that by score."""

    count: int
    rho: float  # Spearman's, below 0 where less loss goes with a better score; NaN if too few, or one never varies
    p_value: float  # two-sided, of a permutation test; NaN likewise
    by_loss: float  # score of the one with the least loss
    best: float  # best score of all


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


@dataclass(frozen=True)
class TrialRow:
    """One trial of a study, as a table shows it."""

    number: int  # its place in the study, from 0: the project's own settings
    state: str  # complete, pruned, failed, running or waiting
    settings: Mapping[str, object]  # searched keys and derived ones, with their values
    values: Mapping[str, float]  # objectives; empty unless complete
    metrics: Mapping[str, float]  # all that was measured, on dev items
    feasible: bool = True  # whether every constraint holds
    failure: str | None = None  # oom, nan, timeout, infeasible, killed or error
    reason: str | None = None  # a sentence for a person
    run_id: str | None = None
    seconds: float | None = None
    attempts: int = 1  # how often it was started
    name: str = ""  # what differs from the project's settings
    seed: int | None = None  # of a repeat; None where every trial of the search has the project's own


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained with several seeds."""

    trial: int  # number of the trial that found it, or of its first repeat
    name: str
    settings: Mapping[str, object]
    seeds: tuple[int, ...]
    dev: tuple[float, ...]  # scores on dev items, one a seed; empty where no task is scored
    locked: tuple[float, ...]  # scores on locked items, one a seed; empty until they were scored
    run_ids: tuple[str, ...]
    own: bool = False  # whether these are the project's own settings
    values: tuple[float, ...] = ()  # the first objective, one a seed: what the winner is chosen by
    # The other objectives, one value a seed: they decide between equal means of the first.
    further: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # Why it cannot win: a bound that it breaks on the mean of its seeds, or a seed that failed.
    refused: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """Everything that a study's report shows."""

    name: str
    project: str
    run_id: str  # its trials' runs are children of it
    # Metric -> maximize or minimize; the first decides who is a finalist and who wins, each further one between those
    # that are equal so far.
    objectives: Mapping[str, str]
    constraints: Mapping[str, str]  # metric -> bound, as the project says it
    sampler: str
    pruner: str
    seed: int
    trials: Sequence[TrialRow]
    finalists: Sequence[Finalist] = ()
    # Number of the trial whose configuration has the best mean of the first objective over its seeds.
    winner: int | None = None
    base_dev: float | None = None  # the base's own scores
    base_locked: float | None = None
    over_base: Difference | None = None  # gain of the winner on locked items
    over_own: Difference | None = None  # the same over the project's own settings; None when these win
    start: str | None = None  # the adapter that every trial began with, the parent
    parent_dev: float | None = None  # its scores
    parent_locked: float | None = None
    over_parent: Difference | None = None  # gain of the winner on locked items
    model_version: str | None = None  # "name/3" of the winner's adapter
    seconds: float = 0.0
    notes: Sequence[str] = ()
    repeats: int | None = None  # how often each configuration was to be trained; None in a search with finals
    # Searched settings that change what a validation loss is a mean of: losses of trials that differ in one of these
    # cannot be ranked together.
    loss_settings: tuple[str, ...] = ()
    configurations: tuple[Finalist, ...] = ()  # of a study with repeats, all of them; the finalists are the best
