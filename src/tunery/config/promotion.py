"""The section `promotion`: what a champion must show."""

from __future__ import annotations

from pydantic import Field

from tunery.config.section import NonNegativeNumber, Section


class PromotionConfig(Section):
    """What a candidate must show before the alias champion moves."""

    min_gain: NonNegativeNumber = Field(0.0, description="Gain over the champion on the primary score, at least.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Confidence of the paired tests.")
    guard: dict[str, float] = Field(
        {}, description="Tasks that must not fall by more than this: {truthfulqa_mc2: -0.01}."
    )
