"""Frozen records of a comparison: one entry a run, with its scores and what must agree to compare them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from tunery.tracking.search import Run


@dataclass(frozen=True)
class TaskScore:
    """One run's score of one task beside its base's."""

    task: str
    metric: str
    value: float
    stderr: float | None
    items: int  # items that were scored; 0 if unknown
    base: float | None = None  # the base's own score on the same items; None if unknown
    base_stderr: float | None = None
    higher_is_better: bool = True
    # What must agree for two scores to be ranked together: "version", "few_shot", "limit", "chat_template", "template",
    # "split", and "items" (a digest of the item ids). What was not recorded is missing.
    conditions: Mapping[str, str] = field(default_factory=dict)
    counts: bool = True  # whether the task is part of the run's `score`


@dataclass(frozen=True)
class Votes:
    """People's choices between a model's answers and its base's."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def together(cls, votes: Sequence[Votes]) -> Votes:
        """The sum of several."""
        return cls(sum(one.wins for one in votes), sum(one.ties for one in votes), sum(one.losses for one in votes))


@dataclass(frozen=True)
class Timed:
    """A median over repetitions with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """How fast a model wrote, at one batch size on one device."""

    device: str
    prompt_tokens: int
    new_tokens: int
    batch: int
    first_token_seconds: Timed
    tokens_per_second: Timed
    peak_memory_bytes: float
    load_seconds: float

    @property
    def conditions(self) -> tuple[str, int, int]:
        """What must agree for two speeds to be compared, but for the batch size."""
        return self.device, self.prompt_tokens, self.new_tokens


@dataclass(frozen=True)
class SamplesLocation:
    """Where a task's answers are kept, and which base's answers they are compared with."""

    run_id: str
    artifact_uri: str
    folder: str  # in the run's artifacts: samples, or samples/locked
    base: str
    base_revision: str
    quantization: str | None
    is_bare: bool = False  # whether the model was not trained, so that it has no base to be compared with


@dataclass(frozen=True)
class RunEntry:
    """One run as a comparison sees it."""

    run_id: str
    name: str
    kind: str  # train, trial, evaluation, base or import
    project: str
    base: str  # the base model's name; base and revision decide which base score is the anchor
    method: str  # full, lora, qlora, dora, qdora, ...; none for a bare model
    # Names of the training datasets, as one text, those of an adapter that it began with first: "a, b → c"; empty for a
    # bare model.
    trained_on: str
    configuration: str  # equal for runs that differ in their seed alone; empty if unknown
    seed: int | None
    tasks: Mapping[str, TaskScore]  # scores by task
    base_revision: str = ""
    # train_seconds, peak_memory_bytes, trainable_parameters, model_bytes, energy_joules: those that are known.
    costs: Mapping[str, float] = field(default_factory=dict)
    train_rows: int | None = None  # number of training rows
    version: str | None = None  # "name/3" of its registered version
    # Answers by task, one row an item: item_id, split, one column a metric, `passage` where items share a text, and
    # `chosen` and `right` of a multiple choice. Empty if the run keeps none.
    samples: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    base_samples: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    # Metric -> (optimizer step, value) of every point.
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    votes: Votes | None = None
    speeds: Sequence[Speed] = ()  # the latest of each device, request and batch size
    started_ms: int = 0
    notes: Sequence[str] = ()  # what a reader should know: a run that was pruned, answers that are missing, ...
    source: str = ""
    experiment_id: str = ""
    locations: Mapping[str, SamplesLocation] = field(default_factory=dict)  # where the answers of each task are kept
    # The params that make its configuration, by short key: {"adapter.rank": "16"}.
    settings: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()  # MLflow's ids of the models that the run logged
    base_form: tuple[str, ...] = ()  # how its base is loaded, of which its speed depends: `speeds.base_form`
    evaluated: str = ""  # the logged model that an evaluation scored
    named: bool = False  # whether a person asked for it by its id or version
    power: tuple[str, ...] = ()  # names of the metrics that hold the power its GPUs drew, in watts
    imported: Run | None = None  # the MLflow run of an import, which may hold scores by other metrics


def configuration_of(run: RunEntry) -> tuple[str, ...]:
    """Equal for runs that differ in their seed alone; a run without a known configuration is like no other."""
    return (run.configuration or run.run_id, run.base, run.base_revision, run.trained_on)


def repetitions(runs: Iterable[RunEntry]) -> list[list[RunEntry]]:
    """Runs of one configuration and seed together, the latest first."""
    groups: dict[object, list[RunEntry]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.started_ms, run.run_id), reverse=True):
        groups[configuration_of(run), run.seed].append(run)
    return list(groups.values())


def counting(run: RunEntry) -> dict[str, TaskScore]:
    """The tasks that make a run's score; all of its tasks if none is marked."""
    return {name: score for name, score in run.tasks.items() if score.counts} or dict(run.tasks)


def counting_anywhere(runs: Iterable[RunEntry]) -> set[str]:
    """The tasks that count in any of the runs; imports decide only where there is nothing else."""
    tasks: dict[bool, set[str]] = {True: set(), False: set()}
    for run in runs:
        tasks[run.kind == "import"].update(counting(run))
    return tasks[False] or tasks[True]


def ranked_by(run: RunEntry, tasks: Collection[str]) -> dict[str, TaskScore]:
    """The run's scores of `tasks`, from `counting_anywhere`; its own counting tasks if it has none of these.

    Two projects may have scored each other's tasks without counting them; they are then ranked by the tasks of both.
    A task that does not count in the run itself is left out if its score is no number.
    """
    own = counting(run)
    found = {
        name: score
        for name, score in run.tasks.items()
        if name in tasks and (name in own or math.isfinite(score.value))
    }
    return found or own


def templates(runs: Iterable[RunEntry]) -> list[str]:
    """The chat templates that any of the runs' tasks were asked through, sorted."""
    scores = (score for run in runs for score in run.tasks.values())
    return sorted({score.conditions["template"] for score in scores if "template" in score.conditions})


def without_template(run: RunEntry) -> RunEntry:
    """The same run, whose scores may be ranked with those through any chat template."""
    return replace(run, tasks={name: _without_template(score) for name, score in run.tasks.items()})


def _without_template(score: TaskScore) -> TaskScore:
    return replace(score, conditions={key: value for key, value in score.conditions.items() if key != "template"})


# ---- what must agree


SETTLED_BY_ITEMS = ("limit", "split", "item count")  # ways to choose items: irrelevant if the same items came out

# The words of data.prompt_template, which a model was taught by: each is asked in its own, as its base is.
OF_THE_MODEL = ("wording",)


def conditions_of(score: TaskScore) -> dict[str, str]:
    """Everything that must agree before another score of the task can be compared with this one, if known."""
    count = {"item count": str(score.items)} if score.items > 0 else {}
    return {"metric": score.metric, **score.conditions, **count}


def conflicts(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names of the conditions, from `conditions_of`, that both sides recorded with different values.

    Scores of different splits are of different items: a dev score is no stand-in for one on all items. Only an equal
    digest of the items shows that the split, the limit and the count did not matter.
    """
    differing = [key for key in one if key in other and one[key] != other[key]]
    same_items = "items" in one and one["items"] == other.get("items")
    settled = (*SETTLED_BY_ITEMS, *OF_THE_MODEL) if same_items else OF_THE_MODEL
    return [key for key in differing if key not in settled]
