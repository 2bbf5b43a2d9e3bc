"""The section `promotion`: what a new champion must prove."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunery.config.section import NonNegativeNumber, Section, key, not_a_boolean

Bound = Annotated[float, Field(le=0.0, allow_inf_nan=False), BeforeValidator(not_a_boolean)]

# The three ways to run an adapter: over its base as it was trained (4-bit, say), over 16-bit weights, and merged into
# them.
Form = Literal["trained", "adapter", "merged"]


class PromotionConfig(Section):
    """What a candidate must prove before the alias `champion` moves. Scores are of locked items, in pairs."""

    min_gain: NonNegativeNumber = key(
        0.0, "Required gain over the champion and the base on the primary score; the interval must be above it."
    )
    confidence: float = key(0.95, "Confidence of the two-sided interval of each paired difference.", gt=0.5, lt=1.0)
    guard: dict[str, Bound] = key(
        {},
        "Tasks that must not fall by more than this, against champion and base: {truthfulqa_mc2: -0.01}; "
        "the interval must be above it.",
    )
    deploy: Form = key(
        "trained",
        "The form that will be deployed, which the gates judge: trained (adapter on the base as it was "
        "trained, nf4 for example), adapter (on 16-bit weights) or merged (into 16-bit weights).",
    )
    max_drift: NonNegativeNumber = key(
        0.01, "Largest difference between the deployed form's score and the trained form's, on the same items."
    )
    license: str | None = key(None, "Licence of the base, if its own card names none.", min_length=1)
