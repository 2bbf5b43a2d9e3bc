"""Whether a lower validation loss goes with a better score, in words."""

from __future__ import annotations

import math

from tunery.records.scores import FEWEST_RANKED, RankCorrelation
from tunery.reporting.text import counted, number, p_value

_SURE = 0.05


def correlation_label(found: RankCorrelation) -> str:
    """For a figure: "n = 8, Spearman's rho -0.90, p = 0.003"."""
    if math.isnan(found.rho):
        return f"n = {found.count}: {_unknown(found)}"
    return f"n = {found.count}, Spearman's rho {found.rho:+.2f}, p {p_value(found.p_value)}"


def correlation_meaning(found: RankCorrelation, noun: str) -> str:
    """What it says to whoever judged by loss.

    Args:
        noun: What was measured: "checkpoint" or "trial".
    """
    price = (
        f"The {noun} of least loss scores {number(found.by_loss)} on dev items, the best of them {number(found.best)}."
    )
    if math.isnan(found.rho):
        return f"Validation loss and score of {counted(found.count, noun)}: {_unknown(found)}. {price}"
    if found.p_value > _SURE:
        said = "the loss does not tell which of them scores better: judge by the score"
    elif found.rho < 0:
        said = "less loss went with a better score: to judge by loss was to judge by score, in tendency"
    else:
        said = "less loss went with a worse score: whoever judged by loss judged against the score"
    what = f"Spearman's rank correlation of validation loss and score over {counted(found.count, noun)}"
    return f"{what} is {found.rho:+.2f} (permutation p {p_value(found.p_value)}): {said}. {price}"


def _unknown(found: RankCorrelation) -> str:
    few = found.count < FEWEST_RANKED
    return "too few for a rank correlation" if few else "no rank correlation, as one of the two never varies"
