"""Times one model that is loaded: first token, tokens a second, peak memory, batch size by batch size."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunery.evaluation.eval_mode import memory_checked, undisturbed
from tunery.evaluation.generate import NO_RULES
from tunery.training.memory import peak_memory_bytes, reset_peak_memory

Clock = Callable[[], float]  # seconds
PROMPT_TOKENS = 128  # of each prompt, where the model takes as many
REPEATS = 10  # six are the fewest whose extremes bound the median with 95 % confidence
_WARM_UPS = 2  # discarded: kernels are chosen, memory is taken from the system
_TEXT = (
    "A train leaves the station at eight in the morning and reaches the coast, 240 kilometres away, shortly before "
    "noon. On its way it stops in four towns. Describe the journey, and say how fast the train was on average. "
)


@dataclass(frozen=True)
class SpeedRequest:
    """What each model is asked."""

    batches: tuple[int, ...]  # prompts that are answered at once
    new_tokens: int  # that every answer has, whatever the model writes
    prompt_tokens: int = PROMPT_TOKENS


@dataclass(frozen=True)
class BatchSpeed:
    """How fast prompts were answered, `batch` at once; one value a repetition, in their order."""

    batch: int
    first_token_seconds: tuple[float, ...]  # from the call to the first new token of every row
    tokens_per_second: tuple[float, ...]  # new tokens of all rows / seconds from the call to the last of them
    peak_memory_bytes: int  # as `peak_memory_bytes` measures, weights included


def measure(
    model: Any, tokenizer: Any, request: SpeedRequest, elsewhere_bytes: int = 0, clock: Clock | None = None
) -> Iterator[BatchSpeed]:
    """Time greedy answers to equal prompts, one batch size after the other.

    Every answer is `new_tokens` long: the end of the turn is held back.

    Args:
        model: A causal language model that is loaded, with or without an adapter; left as it was.
        tokenizer: Its tokenizer.
        elsewhere_bytes: Of another model that is loaded beside it, taken off the peak.
        clock: Gives seconds. By default time.perf_counter, read when the device has done all that it was given.

    Raises:
        OutOfMemory: If a batch does not fit.
    """
    device = str(next(model.parameters()).device.type)
    clock, prompt = clock or _clock_of(device), _prompt(tokenizer, request.prompt_tokens)
    for batch in request.batches:
        advice = f"Leave the batch size {batch} out of --batch, or use base.quantization: nf4."
        with memory_checked(f"answering {batch} prompts at once", batch, advice), undisturbed(model):
            reset_peak_memory(device)
            timed = [_answer(model, tokenizer, prompt, batch, request, clock) for _ in range(_WARM_UPS + REPEATS)]
            peak = peak_memory_bytes(device) - elsewhere_bytes
        first, last = zip(*timed[_WARM_UPS:], strict=True)
        rates = tuple(batch * request.new_tokens / seconds for seconds in last)
        yield BatchSpeed(batch, first, rates, peak)


def _prompt(tokenizer: Any, length: int) -> Sequence[int]:
    """Plain English, repeated: the speed of a mixture of experts depends on what is read."""
    ids = tokenizer.encode(_TEXT, add_special_tokens=False)
    return list(itertools.islice(itertools.cycle(ids), length))


def _answer(
    model: Any, tokenizer: Any, prompt: Sequence[int], batch: int, request: SpeedRequest, clock: Clock
) -> tuple[float, float]:
    """Seconds from the call to the first and to the last new token."""
    import torch
    from transformers import StoppingCriteriaList

    device = next(model.parameters()).device
    ids = torch.tensor([list(prompt)] * batch, device=device)
    first: list[float] = []

    def note(written: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        """Stops nothing: it is asked after each token. Only the first is waited for."""
        if not first:
            first.append(clock())
        return torch.zeros(len(written), dtype=torch.bool, device=written.device)

    began = clock()
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        stopping_criteria=StoppingCriteriaList([note]),
        **{**NO_RULES, "min_new_tokens": request.new_tokens},
    )
    ended = clock()
    assert written.shape[1] == len(prompt) + request.new_tokens, "the end of the turn is held back"
    assert first, "at least one token is asked for"
    return first[0] - began, ended - began


def _clock_of(device: str) -> Clock:
    """A clock that is read when the device has done all that it was given."""
    import torch

    def read() -> float:
        # A CUDA kernel is only queued when Python goes on.
        if device == "cuda":
            torch.cuda.synchronize()
        elif device == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    return read
