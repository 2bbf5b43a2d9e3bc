"""What a base makes of the training answers, in words."""

from __future__ import annotations

from tunery.records.runs import BaseFit

_TINY = "builtin:tiny"
# Small enough for a laptop's CPU, and pretrained on English.
_REAL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def fit_sentences(fit: BaseFit | None, model: str) -> list[str]:
    """What is told where a training begins; nothing where the fit is unknown."""
    if fit is None:
        return []
    far = far_warning(fit, model)
    return [fit_sentence(fit)] if far is None else [fit_sentence(fit), far]


def fit_sentence(fit: BaseFit) -> str:
    """The numbers: of the answers, of the base's own text, of guessing."""
    return (
        f"Untrained, the base gives the training answers {fit.nll:.2f} nats a token; its own text at the same places "
        f"would take {fit.entropy:.2f}, guessing {fit.guessing:.2f}."
    )


def far_warning(fit: BaseFit, model: str) -> str | None:
    """What to do where the answers are far from what the base knows; None where they are not.

    Args:
        model: The base, as the project names it.
    """
    if not fit.is_far:
        return None
    told = (
        f"The training answers are far from what {model} knows, and a few steps teach no language: expect little gain."
    )
    if model == _TINY:
        return f"{told} {_TINY} knows only the quickstart's small world: take a pretrained base, --base.model {_REAL}."
    return f"{told} Take a base that was pretrained on such text, and look at the rows with --preview."
