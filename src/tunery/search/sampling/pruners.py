"""How poor trials are ended early: what is compared at a checkpoint, and by which rule."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import Literal

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from tunery.config.project import Project
from tunery.config.search import Dimension, SearchConfig
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY

PruneMetric = Literal["score", "validation/nll"]

# The names that training reports them by.
_REPORTED: Mapping[PruneMetric, str] = {"score": "validation/score", "validation/nll": "validation/nll"}
_CHANGE_LOSS = (
    *("training.method", "training.loss_on", "base.model", "base.revision", "base.chat_template"),
    *("data.template", "data.separator", "data.max_length", "data.clean."),
)
# Where validation rows are a share of the training rows; a sample is drawn, and weights count, without them.
_CHANGE_ROWS = ("data.train", "data.decontaminate.")
RUNGS = "rungs"  # of a trial, where trials differ in it
# One-sided, four pairs cannot reach p < 0.1 before the last checkpoint, where there is nothing left to save.
FEWEST_WILCOXON_RUNGS = 5


def prunes(search: SearchConfig) -> bool:
    """Whether trials may be ended early: Optuna cannot tell which of two is worse by several objectives."""
    return search.pruner != "none" and len(search.objectives) == 1


def prune_metric(project: Project) -> PruneMetric | None:
    """What trials are compared by at a checkpoint; None if none is pruned or a checkpoint measures nothing."""
    if not prunes(project.search):
        return None
    if project.search.prune_by != "auto":
        return project.search.prune_by
    if project.training.scores_checkpoints:
        return "score"
    return "validation/nll" if has_validation(project) and not changes_loss(project) else None


def changes_loss(project: Project) -> list[str]:
    """Keys of the search that change what the validation loss is a mean of: tokens, texts, the model that reads them.

    A loss over every token may be a third of one over answers, with nothing learned.
    """
    prefixes = _CHANGE_LOSS if project.data.validation.source is not None else (*_CHANGE_LOSS, *_CHANGE_ROWS)
    if "all" in _loss_on(project):  # otherwise the same answers are learned after another prompt
        prefixes = (*prefixes, "data.prompt_template")
    keys = (key for key in project.search.space if re.sub(r"\.\d+", "", key).startswith(prefixes))
    return [key for key in keys if not key.endswith((".weight", ".sample.rows", ".sample.balanced", ".sample.seed"))]


def _loss_on(project: Project) -> list[object]:
    """What a trial may learn: the project's own setting, which is one, and those that are searched."""
    searched = project.search.space.get("training.loss_on")
    return [project.training.loss_on, *((isinstance(searched, Dimension) and searched.choices) or ())]


def has_validation(project: Project) -> bool:
    """Whether there are rows to measure validation loss on, and a training that does."""
    validation = project.data.validation
    return project.training.trains and (validation.source is not None or validation.fraction > 0)


def most_rungs(project: Project) -> int:
    """Checkpoints of the trial with the most of them."""
    training, epochs = project.training, project.search.space.get("training.epochs")
    searched = [*(epochs.choices or ()), epochs.high] if isinstance(epochs, Dimension) else []
    if training.checkpoints != "epoch":
        return training.checkpoints
    return max(math.ceil(float(count)) for count in (training.epochs, *searched) if count is not None)


def rung_value(
    values: Mapping[str, float], metric: PruneMetric, direction: Literal["maximize", "minimize"]
) -> float | None:
    """What to report to Optuna at a step; None at a step that is no checkpoint.

    Args:
        values: A step's metrics, as StepMetrics holds them.
        metric: See `prune_metric`.
        direction: Of the study's objective. Optuna compares in that direction, so that a metric that runs the other
            way changes its sign.
    """
    value = values.get(_REPORTED[metric])
    natural = "maximize" if metric == "score" else "minimize"
    return value if value is None or direction == natural else -value


def make_pruner(search: SearchConfig, rungs: int) -> BasePruner:
    """The pruner that search.pruner names, for trials that report their rungs as steps 1, 2, ... `rungs`.

    The project's own settings are never pruned, and nothing is at its last rung, when its score is paid for.
    """
    if not prunes(search):
        return NopPruner()
    rule: BasePruner
    if search.pruner == "hyperband":
        rule = HyperbandPruner(min_resource=1, max_resource=max(1, rungs), reduction_factor=3, bootstrap_count=0)
    elif search.pruner == "wilcoxon":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            rule = WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)
    else:
        percentile = 50.0 if search.pruner == "median" else 25.0
        rule = PercentilePruner(percentile, n_startup_trials=5, n_warmup_steps=0, interval_steps=1, n_min_trials=1)
    return _RungPruner(rule, rungs)


class _RungPruner(BasePruner):
    """Spares the project's own settings and trials at their last rung.

    Being no HyperbandPruner itself, it also leaves the sampler all trials to learn from: with Optuna's, a sampler sees
    those of one bracket only, and in a study of 20 trials would hardly leave its random start.
    """

    def __init__(self, rule: BasePruner, rungs: int) -> None:
        self._rule, self._rungs = rule, rungs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        worse = self._rule.prune(study, trial)  # asked always: hyperband keeps each trial's value at each rung
        last = trial.user_attrs.get(RUNGS, self._rungs)
        spared = trial.user_attrs.get(QUEUE_KEY) == OWN_TRIAL or (trial.last_step or 0) >= last
        return worse and not spared
