"""What a model gives must be numbers. Imported late: it loads torch and transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from tunery.errors import NonFiniteScore

_SHOWN = 60  # characters of a prompt's end


class FiniteLogits(LogitsProcessor):  # type: ignore[misc]
    """Ends a generation whose logits are no numbers: decoding would write token 0, or whatever NaN sorts to.

    Args:
        tokenizer: Shows the prompt at fault.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores, shape (rows, vocabulary), as they are; single tokens may be ruled out by -inf.

        Raises:
            NonFiniteScore: If a row has a NaN, an infinity, or no token that can be written.
        """
        lost = ~scores.max(dim=-1).values.isfinite()
        if bool(lost.any()):
            prompt = self._tokenizer.decode(input_ids[int(lost.nonzero()[0])], skip_special_tokens=True)
            raise NonFiniteScore("generating", f"logits after {_end(prompt)}")
        return scores


def finite_logits(tokenizer: Any) -> LogitsProcessorList:
    """For `generate`: see FiniteLogits."""
    return LogitsProcessorList([FiniteLogits(tokenizer)])


def require_finite(requests: Sequence[Any], values: Sequence[float]) -> None:
    """Refuse log-likelihoods that are no numbers.

    Args:
        requests: lm-eval's, of any number of tasks.
        values: The log-likelihood of each, in nats.

    Raises:
        NonFiniteScore: With the task, the number of items and the first of them.
    """
    lost = [request for request, value in zip(requests, values, strict=True) if not math.isfinite(value)]
    if not lost:
        return
    first = lost[0]
    items, of = (len({one.doc_id for one in some if one.task_name == first.task_name}) for some in (lost, requests))
    told = f"log-likelihoods of {items} of {of} items (the first is {first.doc_id + 1}, {_end(first.args[0])})"
    raise NonFiniteScore(str(first.task_name or "log-likelihoods"), told)


def _end(prompt: str) -> str:
    shown = " ".join(prompt.split())
    return repr(shown if len(shown) <= _SHOWN else f"...{shown[-_SHOWN:]}")
