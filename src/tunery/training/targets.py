"""Whether rows have tokens to learn, which is known before a model is."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.config.training import TrainingConfig
from tunery.errors import ConfigError, Fault
from tunery.records.rows import Example, PreparedData


def has_targets(examples: Sequence[Example]) -> bool:
    """Whether any row has a token to learn; the first token of a row is never one."""
    return any(any(example.trained[1:]) for example in examples)


def require_validation(config: TrainingConfig, data: PreparedData) -> None:
    """Refuse a choice by validation loss where no row measures one.

    Raises:
        ConfigError: If `keep_best_by` names a loss on validation rows and no validation row has a token to learn.
    """
    if config.chooses_by_validation and not has_targets(data.validation):
        rule = "last or score when no validation row has a token to learn"
        fault = Fault("training.keep_best_by", rule, config.keep_best_by, "Raise data.validation.fraction.")
        raise ConfigError("data.validation", fault)
