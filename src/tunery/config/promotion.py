"""The section `promotion`: what a champion must show."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunery.config.section import NonNegativeNumber, Section, not_a_boolean

Bound = Annotated[float, Field(le=0.0, allow_inf_nan=False), BeforeValidator(not_a_boolean)]

# The three ways to run an adapter: over its base as it was trained (4-bit, say), over 16-bit weights, and merged into
# them.
Form = Literal["trained", "adapter", "merged"]


class PromotionConfig(Section):
    """What a candidate must show before the alias champion moves. Every score is of locked items, paired one by one."""

    min_gain: NonNegativeNumber = Field(
        0.0,
        description="Gain over the champion and over the base on the primary score: the interval must lie above it.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Of the two-sided interval of each paired difference.")
    guard: dict[str, Bound] = Field(
        {},
        description="Tasks that must not fall by more than this, against champion and base: {truthfulqa_mc2: -0.01}; "
        "the interval must lie above it.",
    )
    deploy: Form = Field(
        "trained",
        description="The form that will be used, and that the gates judge: trained (adapter over the base as it was "
        "trained, nf4, say), adapter (over 16-bit weights) or merged (into 16-bit weights).",
    )
    max_drift: NonNegativeNumber = Field(
        0.01, description="How far the score of the deployed form may be from the score as trained, on the same items."
    )
    license: str | None = Field(None, min_length=1, description="Licence of the base, where its own card names none.")
