"""How a model's writing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tunery.config.model import BaseConfig
from tunery.errors import OutOfMemory
from tunery.models.base import load_base
from tunery.runs.speed.measure import REPEATS, SpeedRequest, measure


class Tokenizer:
    pad_token_id = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(range(len(text.split())))


class Clock:
    """Stands still until somebody works."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Writer(nn.Module):
    """Takes `seconds` of each call, the next one of them each time, and a fifth of that for the first token."""

    def __init__(self, seconds: Sequence[float]) -> None:
        super().__init__()
        self.clock = Clock()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seconds, self.asked = list(seconds), list[tuple[int, int]]()

    def generate(self, input_ids: torch.Tensor, max_new_tokens: int, stopping_criteria: Any, **options: Any) -> Any:
        assert options["min_new_tokens"] == max_new_tokens
        self.asked.append(tuple(input_ids.shape))
        seconds = self.seconds[min(len(self.asked) - 1, len(self.seconds) - 1)]
        for place in range(max_new_tokens):
            self.clock.now += seconds / 5 if place == 0 else 0.8 * seconds / (max_new_tokens - 1)
            input_ids = torch.cat([input_ids, torch.zeros_like(input_ids[:, :1])], dim=1)
            assert not stopping_criteria(input_ids, None).any()
        return input_ids


def test_warm_up_is_discarded_and_tokens_of_all_rows_count() -> None:
    writer = Writer([8.0, 8.0, *(float(2**place) for place in range(REPEATS))])
    [found] = measure(writer, Tokenizer(), SpeedRequest((4,), 5, prompt_tokens=50), clock=writer.clock)
    assert writer.asked == [(4, 50)] * (2 + REPEATS)
    assert found.first_token_seconds == pytest.approx([0.2 * 2**place for place in range(REPEATS)])
    assert found.tokens_per_second == pytest.approx([4 * 5 / 2**place for place in range(REPEATS)])


def test_without_a_clock_of_ones_own_real_seconds_are_measured() -> None:
    [found] = measure(Writer([0.0]), Tokenizer(), SpeedRequest((1,), 2))
    for first, rate in zip(found.first_token_seconds, found.tokens_per_second, strict=True):
        assert 0 < first <= 2 / rate < 60


def test_what_another_model_holds_is_taken_off_the_peak() -> None:
    sizes = []
    for held in (0, 2**20):
        [found] = measure(Writer([0.0]), Tokenizer(), SpeedRequest((1,), 2), held)
        sizes.append(found.peak_memory_bytes)
    assert sizes[0] - sizes[1] == pytest.approx(2**20, abs=2**19)


def test_a_batch_that_does_not_fit_says_what_to_leave_out() -> None:
    class Full(Writer):
        def generate(self, *_: Any, **__: Any) -> Any:
            raise MemoryError("no more")

    with pytest.raises(OutOfMemory, match=r"answering 64 prompts at once: out of memory .*Leave the batch size 64 out"):
        list(measure(Full([0.0]), Tokenizer(), SpeedRequest((64,), 2)))


def test_a_real_model_writes_as_many_tokens_as_it_is_asked_whatever_it_would_write(tmp_path: Any) -> None:
    base = load_base(BaseConfig(model="builtin:tiny", quantization="none"), tmp_path, "cpu")
    assert base.load_seconds > 0
    stops = base.model.generation_config.eos_token_id
    assert stops is not None, "else nothing would end an answer before its time"
    for found, batch in zip(measure(base.model, base.tokenizer, SpeedRequest((1, 2), 3, 8)), (1, 2), strict=True):
        assert found.batch == batch
        assert found.peak_memory_bytes > 0
