"""A trained model and its base, whose answers are streamed side by side; an adapter shares the weights of its base."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from tunery.records.rows import Message
from tunery.records.runs import BaseIdentity
from tunery.tracking.registry import ModelRef
from tunery.tracking.store import Store

if TYPE_CHECKING:
    import torch

# What a decoder writes for bytes that are not a whole character yet.
_INCOMPLETE = "�"
_EXAMPLES, _LONGEST_EXAMPLE = 4, 160
_WRITTEN_OUT = re.compile(r"(system|user|assistant|tool): ")


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
    template: Literal["chat", "plain"]  # how a conversation becomes tokens
    # Context in which `model` answers as this one: `adapter_off` for the base.
    switch: Callable[[Any], AbstractContextManager[Any]] = nullcontext

    def write(self, messages: Sequence[Message], sampling: Sampling, lock: Lock) -> Iterator[str]:
        """Yield the answer as it grows, a token longer each time; the last is the whole answer.

        Args:
            messages: The conversation up to the question.
            sampling: How tokens are drawn.
            lock: Held while a token is computed, so that writers of one model take turns.

        Raises:
            DataError: If the chat template refuses the conversation, or it is too long for the model.
        """
        from tunery.evaluation.generate import encode_prompts, stop_ids
        from tunery.tracking.flavor.pyfunc import check_room

        prompt = encode_prompts(self.tokenizer, [messages], self.template)[0]
        check_room(self.model, len(prompt), sampling.max_tokens, "the conversation", "Begin a new conversation.")
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


@dataclass(frozen=True)
class AnswerPair:
    """A tuned model and its base, ready to answer."""

    ref: ModelRef  # of the tuned model
    project: str  # of the tuned model
    base: Writer
    tuned: Writer
    identity: BaseIdentity  # the base model
    max_tokens: int = Sampling.max_tokens  # the default length of an answer
    examples: tuple[str, ...] = ()  # questions from the validation rows of the tuned model's training

    @property
    def name(self) -> str:
        """The tuned model as a person names it: "quickstart/3", or its reference if it has no version."""
        return f"{self.ref.name}/{self.ref.version}" if self.ref.version is not None else self.ref.ref


@contextmanager
def fetched(ref: str, store: Store) -> Iterator[tuple[ModelRef, Path]]:
    """Download a logged model's files to a temporary folder, which the block's end removes.

    Raises:
        RefError: If the reference does not resolve.
    """
    from tunery.tracking.registry import download, resolve

    found = resolve(ref, store)
    with TemporaryDirectory(prefix="tunery-") as place:
        yield found, download(found, Path(place), store)


def load_pair(ref: str, store: Store, device: str = "auto") -> AnswerPair:
    """Load a trained model and its base.

    Raises:
        RefError: If the reference does not resolve.
        BaseModelError: If the base can no longer be loaded.
    """
    from tunery.evaluation.eval_mode import adapter_off, never_repack
    from tunery.tracking.flavor.rebuild import rebuild, rebuild_base
    from tunery.tracking.run_facts import project_of, read_run

    with fetched(ref, store) as (found, folder):
        rebuilt = rebuild(folder, device)
        # Every weight was trained: there is no adapter to switch off, so the base is a second model.
        apart = rebuild_base(folder, device) if rebuilt.facts.method == "full" else None
    never_repack(rebuilt.model)
    tokenizer, template = rebuilt.loaded.tokenizer, rebuilt.facts.template
    tuned = Writer(rebuilt.model, tokenizer, template)
    base = Writer(rebuilt.model, tokenizer, template, adapter_off)
    if apart is not None:
        base = Writer(apart.model, apart.tokenizer, template)
    asked = example_questions([row["prompt"] for row in read_run(store, found.run_id).answers if "prompt" in row])
    return AnswerPair(found, project_of(store, found), base, tuned, rebuilt.facts.identity, examples=asked)


def example_questions(prompts: Sequence[str]) -> tuple[str, ...]:
    """A few of a run's prompts that a person could have typed: short, and not a conversation written out."""
    typed = [prompt for prompt in prompts if len(prompt) <= _LONGEST_EXAMPLE and not _WRITTEN_OUT.match(prompt)]
    return tuple(dict.fromkeys(typed))[:_EXAMPLES]
