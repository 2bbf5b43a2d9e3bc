"""Answers to prompts: greedy, stopped at the end of the turn, and the same in any batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tunery.errors import NonFiniteScore
from tunery.evaluation.generate import encode_prompts, end_of_turn, generate, stop_ids
from tunery.records.rows import Message
from tunery.reporting import pace

PROMPTS = [
    [Message("user", text)]
    for text in (
        "which colour?",
        "the house is deep red and the barn is pale green, is it?",
        "a",
        "bright yellow house",
    )
]


def test_a_batch_answers_as_each_prompt_alone(model: Any, tokenizer: Any) -> None:
    together = generate(model, tokenizer, PROMPTS, 12, 4, "chat")
    alone = [generate(model, tokenizer, [prompt], 12, 1, "chat")[0] for prompt in PROMPTS]
    assert together == alone
    assert len(set(together)) > 1


def test_a_log_is_told_how_far_writing_is(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "QUIET_SECONDS", 0.0)
    said: list[str] = []
    with pace.listening(said.append):
        generate(model, tokenizer, PROMPTS, 4, 2, "chat")
    assert [line.partition(",")[0] for line in said] == ["writing answers: 2 of 4 prompts"]


def test_a_model_that_gives_no_numbers_writes_nothing(model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NonFiniteScore, match=r"generating: logits after '.*' are not finite, but must be numbers"):
        generate(model, tokenizer, PROMPTS, 12, 4, "chat")


def test_answers_are_those_of_greedy_decoding_by_hand(model: Any, tokenizer: Any) -> None:
    prompt = "<|im_start|>user\nwhich colour?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    written: list[int] = []
    stops = {tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")}
    for _ in range(10):
        with torch.no_grad():
            token = int(model(ids).logits[0, -1].argmax())
        if token in stops:
            break
        written.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    expected = tokenizer.decode(written, skip_special_tokens=True)
    assert generate(model, tokenizer, PROMPTS[:1], 10, 1, "chat") == [expected]


def test_rules_of_the_models_generation_config_do_not_bend_an_answer(model: Any, tokenizer: Any) -> None:
    plain = generate(model, tokenizer, PROMPTS, 12, 4, "chat")
    config = model.generation_config
    config.update(
        repetition_penalty=5.0, no_repeat_ngram_size=1, encoder_repetition_penalty=3.0, encoder_no_repeat_ngram_size=1,
        suppress_tokens=list(range(10, 200)), begin_suppress_tokens=list(range(200, 300)), min_new_tokens=12,
        bad_words_ids=[[token] for token in range(300, 380)], sequence_bias=[[[7], 50.0]], guidance_scale=3.0,
        forced_eos_token_id=9, exponential_decay_length_penalty=(1, 9.0), max_time=0.0, num_return_sequences=3,
        do_sample=True, temperature=3.0, num_beams=3,
    )  # fmt: skip
    assert generate(model, tokenizer, PROMPTS, 12, 4, "chat") == plain
    assert model.generation_config is config
    assert config.repetition_penalty == 5.0


def test_an_answer_stops_at_the_end_of_the_turn(model: Any, tokenizer: Any) -> None:
    end = end_of_turn(tokenizer)
    calls: list[int] = []
    original = model.forward

    def ending(*args: Any, **options: Any) -> Any:
        output = original(*args, **options)
        calls.append(1)
        if len(calls) == 3:
            output.logits[:, -1, end] = 1e4
        return output

    model.forward = ending
    (answer,) = generate(model, tokenizer, PROMPTS[:1], 50, 1, "chat")
    assert len(calls) == 3
    assert "<|im_end|>" not in answer


def test_the_end_of_turn_is_the_templates_and_not_the_end_of_text(model: Any, tokenizer: Any) -> None:
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop_ids(model, tokenizer) == sorted([tokenizer.eos_token_id, end_of_turn(tokenizer)])


def test_a_tokenizer_without_template_ends_at_the_end_of_text(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    assert stop_ids(model, tokenizer) == [tokenizer.eos_token_id]


def test_a_prompt_ends_with_the_assistants_marker(tokenizer: Any) -> None:
    (ids,) = encode_prompts(tokenizer, PROMPTS[:1], "chat")
    assert tokenizer.decode(ids) == "<|im_start|>user\nwhich colour?<|im_end|>\n<|im_start|>assistant\n"


def test_a_plain_prompt_is_the_text_alone(tokenizer: Any) -> None:
    (ids,) = encode_prompts(tokenizer, PROMPTS[:1], "plain")
    assert tokenizer.decode(ids) == "which colour?"


def test_a_token_name_inside_a_prompt_is_text_and_not_the_token(tokenizer: Any) -> None:
    (ids,) = encode_prompts(tokenizer, [[Message("user", "what is <|im_end|>?")]], "chat")
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


def test_no_prompts_have_no_answers(model: Any, tokenizer: Any) -> None:
    assert generate(model, tokenizer, [], 5, 4, "chat") == []


def test_a_model_in_training_is_answered_without_dropout_and_goes_on_training(
    tokenizer: Any, make_llama: Callable[..., Any]
) -> None:
    model = make_llama(len(tokenizer), attention_dropout=0.5)
    expected = generate(model, tokenizer, PROMPTS, 12, 4, "chat")
    model.train()
    torch.manual_seed(3)
    assert generate(model, tokenizer, PROMPTS, 12, 4, "chat") == expected
    assert model.training
    found = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(1))
