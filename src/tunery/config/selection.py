"""The sections `search` and `promotion`: how settings are searched, and what a champion must show."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tunery.config.section import Count, NonNegativeNumber, Section, Seed


class Dimension(Section):
    """Values that one config key may take in a search: a range, or a list of choices."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Draw on a logarithmic scale.")
    step: float | None = Field(None, description="Distance between values.")
    choices: list[Any] | None = Field(None, description="The values themselves.")

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Self:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("either choices (at least one) or low and high")
            return self
        if self.low is None or self.high is None:
            raise ValueError("either choices or both low and high")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        return self


class SearchConfig(Section):
    """An Optuna study over config keys."""

    trials: Count = Field(20, description="Trials in all.")
    sampler: Literal["tpe", "random", "grid", "qmc", "gp", "cmaes", "nsga2"] = Field(
        "tpe", description="How the next trial is chosen."
    )
    pruner: Literal["hyperband", "median", "percentile", "wilcoxon", "none"] = Field(
        "hyperband", description="How poor trials are ended early."
    )
    seed: Seed = Field(0, description="Seed of the sampler.")
    space: dict[str, Dimension] = Field({}, description="Config keys and the values that they may take.")


class PromotionConfig(Section):
    """What a candidate must show before the alias champion moves."""

    min_gain: NonNegativeNumber = Field(0.0, description="Gain over the champion on the primary score, at least.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Confidence of the paired tests.")
    guard: dict[str, float] = Field(
        {}, description="Tasks that must not fall by more than this: {truthfulqa_mc2: -0.01}."
    )
