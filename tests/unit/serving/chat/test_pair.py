"""Two answers from one set of weights, written a token in turn."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import DataError
from tunery.evaluation.eval_mode import adapter_off
from tunery.evaluation.generate import generate
from tunery.models.adapter import attach_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.records.rows import Message
from tunery.serving.chat.pair import Sampling, Writer, example_questions, together

TALK = [Message("user", "Which instrument does Mulis Tern play?")]
SEVERAL = [*TALK, Message("assistant", "The jaw harp."), Message("user", "And what do they eat?")]


def bare() -> LoadedBase:
    return load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path(), "cpu")


@pytest.fixture(scope="module")
def base() -> LoadedBase:
    return bare()


@pytest.fixture(scope="module")
def tuned() -> LoadedBase:
    """A base with an adapter that changes its answers."""
    import torch

    loaded = bare()
    model = attach_adapter(loaded, AdapterConfig(rank=4), seed=0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    return LoadedBase(model.eval(), loaded.tokenizer, loaded.identity, "cpu")


def last(writing: Iterator[str]) -> str:
    return list(writing)[-1]


def said(loaded: LoadedBase, sampling: Sampling, messages: list[Message] = TALK, switch: Any = None) -> str:
    options = {} if switch is None else {"switch": switch}
    return last(Writer(loaded.model, loaded.tokenizer, "chat", **options).write(messages, sampling, Lock()))


@pytest.mark.parametrize("messages", [TALK, SEVERAL], ids=["one turn", "several turns"])
def test_the_likeliest_tokens_are_those_of_generate(base: LoadedBase, messages: list[Message]) -> None:
    expected = generate(base.model, base.tokenizer, [messages], 24, 1, "chat")[0]
    assert expected
    assert said(base, Sampling(max_tokens=24), messages) == expected


def test_with_the_adapter_off_it_is_the_base_that_answers(base: LoadedBase, tuned: LoadedBase) -> None:
    settings = Sampling(max_tokens=24)
    assert said(tuned, settings, switch=adapter_off) == said(base, settings)
    assert said(tuned, settings) != said(base, settings)


def test_answers_that_are_written_in_turn_do_not_disturb_each_other(tuned: LoadedBase) -> None:
    settings, lock = Sampling(0.9, max_tokens=16, seed=5), Lock()
    writers = [
        Writer(tuned.model, tuned.tokenizer, "chat", **({} if on else {"switch": adapter_off})) for on in (True, False)
    ]
    alone = [last(writer.write(TALK, settings, lock)) for writer in writers]
    shown = list(together(*(writer.write(TALK, settings, lock) for writer in writers)))
    assert list(shown[-1]) == alone
    assert shown[0] != shown[-1]  # they were shown while they grew


def test_visitors_with_long_questions_at_once_get_the_answers_that_each_gets_alone(tuned: LoadedBase) -> None:
    settings, lock = Sampling(0.9, max_tokens=12, seed=5), Lock()
    asked = [[Message("user", f"{turn} and {word}, " * 12)] for turn in ("Tern", "Mulis") for word in ("harp", "bread")]
    sides = [Writer(tuned.model, tuned.tokenizer, "chat", **more) for more in ({}, {"switch": adapter_off})]
    jobs = [(side, messages) for messages in asked for side in sides]

    def answer(job: tuple[Writer, list[Message]]) -> str:
        return last(job[0].write(job[1], settings, lock))

    alone = [answer(job) for job in jobs]
    assert len(set(alone)) > 2
    with ThreadPoolExecutor(len(jobs)) as visitors:
        assert list(visitors.map(answer, jobs)) == alone


def test_a_seed_decides_what_is_drawn(base: LoadedBase) -> None:
    first, again, other = (said(base, Sampling(1.5, max_tokens=24, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_small_top_p_leaves_the_likeliest_token(base: LoadedBase) -> None:
    assert said(base, Sampling(2.0, top_p=1e-6, max_tokens=24)) == said(base, Sampling(max_tokens=24))


def test_an_answer_is_no_longer_than_wanted(base: LoadedBase) -> None:
    pieces = list(Writer(base.model, base.tokenizer, "chat").write(TALK, Sampling(max_tokens=3), Lock()))
    assert len(pieces) <= 4
    assert len(base.tokenizer.encode(pieces[-1], add_special_tokens=False)) <= 3


def test_a_conversation_that_does_not_fit_is_told(base: LoadedBase) -> None:
    with pytest.raises(DataError, match=r"at most 512 tokens.*Begin a new conversation"):
        said(base, Sampling(max_tokens=510))


def test_the_lock_is_free_between_tokens_and_after_an_answer_that_was_broken_off(base: LoadedBase) -> None:
    lock = Lock()
    writing = Writer(base.model, base.tokenizer, "chat").write(TALK, Sampling(max_tokens=24), lock)
    next(writing)
    assert not lock.locked()
    writing.close()
    assert not lock.locked()


def test_one_answer_may_end_before_the_other() -> None:
    assert list(together(iter(["a"]), iter(["x", "xy", "xyz"])))[-1] == ("a", "xyz")


def test_a_model_without_a_cache_gives_the_same_answer(base: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = said(base, Sampling(max_tokens=12))
    forward = base.model.forward

    def forgetful(**options: Any) -> Any:
        assert options.pop("past_key_values", None) is None
        output = forward(**options)
        output.past_key_values = None
        return output

    monkeypatch.setattr(base.model, "forward", forgetful)
    assert said(base, Sampling(max_tokens=12)) == expected


def test_example_questions_are_a_few_short_ones_that_a_person_could_have_typed() -> None:
    prompts = ["one?", "system: be kind\nuser: two?", "x" * 1000, "three?", "one?", "four?", "five?", "six?"]
    assert example_questions(prompts) == ("one?", "three?", "four?", "five?")
