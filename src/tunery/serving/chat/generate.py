"""Streams the answers of the base and of the tuned model side by side, from one set of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import signature
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from tunery.records import Message

if TYPE_CHECKING:
    import torch

# What a decoder writes for bytes that are not a whole character yet.
_INCOMPLETE = "�"


@dataclass(frozen=True)
class Sampling:
    """How an answer's tokens are drawn."""

    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0  # draw from the likeliest tokens that together have this probability. Source: arXiv:1904.09751.
    max_tokens: int = 256  # the longest answer, in tokens
    seed: int = 0  # the same seed gives the same answer


@dataclass(frozen=True)
class Writer:
    """One of the two models of the chat page."""

    model: Any  # the weights, which both models may share
    tokenizer: Any
    template: Literal["chat", "plain"]  # chat or plain: how a conversation becomes tokens
    # Context in which `model` answers as this one: `adapter_off` for the base.
    switch: Callable[[Any], AbstractContextManager[Any]] = nullcontext

    def write(self, messages: Sequence[Message], sampling: Sampling, lock: Lock) -> Iterator[str]:
        """Yield the answer as it grows, a token longer each time; the last is the whole answer.

        Args:
            messages: The conversation up to the question.
            sampling: How tokens are drawn.
            lock: Held while a token is computed: writers of one model take turns.

        Raises:
            DataError: If the chat template refuses the conversation, or it is too long for the model.
        """
        from tunery.evaluation.generate import stop_ids

        prompt = self._encode(messages, sampling)
        stops = set(stop_ids(self.model, self.tokenizer))
        step = partial(self._next, draw=_drawing(self.model, sampling))
        written: list[int] = []
        cache: Any = None
        shown = ""
        while len(written) < sampling.max_tokens:
            with lock, self.switch(self.model):
                token, cache = step([*prompt, *written], cache)
            if token in stops:
                break
            written.append(token)
            text = self.tokenizer.decode(written, skip_special_tokens=True)
            if not text.endswith(_INCOMPLETE):
                shown = text
            yield shown
        yield self.tokenizer.decode(written, skip_special_tokens=True)

    def _encode(self, messages: Sequence[Message], sampling: Sampling) -> list[int]:
        from tunery.evaluation.generate import encode_prompts
        from tunery.tracking.flavor.pyfunc import check_room

        prompt = encode_prompts(self.tokenizer, [messages], self.template)[0]
        check_room(self.model, len(prompt), sampling.max_tokens, "the conversation", "Begin a new conversation.")
        return prompt

    def _next(self, ids: Sequence[int], cache: Any, draw: Callable[[torch.Tensor], int]) -> tuple[int, Any]:
        """The next token, and the cached keys and values of all tokens before it."""
        import torch

        new = ids if cache is None else ids[-1:]
        with torch.inference_mode():
            rows = torch.tensor([list(new)], device=self.model.device)
            mask = torch.ones((1, len(ids)), dtype=torch.long, device=self.model.device)
            options = {"past_key_values": cache} if cache is not None else {}
            output = self.model(input_ids=rows, attention_mask=mask, use_cache=True, **options, **self._fewer_logits)
            return draw(output.logits[0, -1].float()), getattr(output, "past_key_values", None)

    @cached_property
    def _fewer_logits(self) -> dict[str, int]:
        """Ask for the logits of the last position only: 2,000 positions of 128,000 tokens are 1 GB in fp32."""
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return {"logits_to_keep": 1} if "logits_to_keep" in signature(inner.forward).parameters else {}


def together(left: Iterator[str], right: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield both answers as they grow, a token of each in turn, until both have ended."""
    shown = ["", ""]
    open_sides = {0: left, 1: right}
    while open_sides:
        for side, answer in list(open_sides.items()):
            text = next(answer, None)
            if text is None:
                del open_sides[side]
            else:
                shown[side] = text
        yield shown[0], shown[1]


def _drawing(model: Any, sampling: Sampling) -> Callable[[torch.Tensor], int]:
    """A function that draws a token from logits in fp32, shape (vocabulary,)."""
    import torch

    if sampling.temperature <= 0:
        return lambda logits: int(logits.argmax())
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    generator = torch.Generator(device=model.device)
    generator.manual_seed(sampling.seed)
    warm, top = TemperatureLogitsWarper(float(sampling.temperature)), TopPLogitsWarper(float(sampling.top_p))

    def draw(logits: torch.Tensor) -> int:
        scores = top(None, warm(None, logits[None]))
        return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=generator))

    return draw
