"""Scores of tasks with their items, and what is found by comparing them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


SCORE = "score"  # the mean over the tasks that count, beside the tasks' own names
FEWEST_RANKED = 5  # of four pairs, even a perfect order has p = 2 / 4! = 0.083: nothing could be found
ALIKE = 0.95  # share of the items from which on a model all but always answers alike


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
