"""What is learned of a conversation, token by token, under templates of many kinds."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig
from tunery.data.rendering.encode import Encoded, encode_all
from tunery.data.row_log import CUT_AWAY
from tunery.errors import BaseModelError, DataError
from tunery.records.rows import Conversation, Drop, Example, Message

# Alternation enforced, no system or tool role, eos after each answer, bos at the start: as Llama 2 and Mistral do.
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
# Turns end in their own token and the whole text in eos, but not where an answer is asked for: as Phi-3 does.
EOS_AT_END = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Only the last answer has a thought before it: as Qwen 3 does.
THOUGHT_IN_LAST = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_STOP = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

TWO_TURNS = (
    ("user", "What is the sky?"),
    ("assistant", "The sky is blue."),
    ("user", "The answer?"),
    ("assistant", "Blue: the answer."),
)


def talk(*turns: tuple[str, str]) -> Conversation:
    return Conversation(tuple(Message(role, content) for role, content in turns), "r:1")


def encode(conversation: Conversation, tokenizer: Any, data: DataConfig, loss_on: str) -> Example:
    (result,) = encode_all([conversation], tokenizer, data, loss_on).results
    assert isinstance(result, Example)
    return result


def config(**values: Any) -> DataConfig:
    return DataConfig.model_validate({"train": [{"source": "r.json"}], **values})


def learned(example: Example, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The texts of the runs of learned tokens."""
    runs: list[list[int]] = []
    before = False
    for token, trained in zip(example.input_ids, example.trained, strict=True):
        if trained and not before:
            runs.append([])
        if trained:
            runs[-1].append(token)
        before = trained
    return [tokenizer.decode(run) for run in runs]


def whole(example: Example, tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.decode(list(example.input_ids))


def dicts(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in conversation.messages]


# ---- what is learned


@pytest.mark.parametrize(
    ("loss_on", "runs"),
    [
        ("completion", ["Blue: the answer.<|im_end|>"]),
        ("assistant", ["The sky is blue.<|im_end|>", "Blue: the answer.<|im_end|>"]),
    ],
)
def test_answers_are_learned_with_the_token_that_ends_them(
    loss_on: str, runs: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    example = encode(talk(*TWO_TURNS), tokenizer, config(), loss_on)
    assert learned(example, tokenizer) == runs


def test_every_token_is_learned_when_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    example = encode(talk(*TWO_TURNS), tokenizer, config(), "all")
    assert all(example.trained[:-1])


def test_tokens_are_those_of_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk(("system", "Be brief."), *TWO_TURNS)
    expected = tokenizer.apply_chat_template(dicts(conversation), return_dict=False)
    assert list(encode(conversation, tokenizer, config(), "assistant").input_ids) == expected


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs", "Co"]), min_size=1).filter(
    lambda text: text.strip() and "<" not in text
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_learned_tokens_agree_with_the_templates_own_generation_marks(
    tokenizer: PreTrainedTokenizerFast, exchanges: list[tuple[str, str]]
) -> None:
    conversation = talk(*[turn for q, a in exchanges for turn in (("user", q), ("assistant", a))])
    oracle = tokenizer.apply_chat_template(dicts(conversation), return_dict=True, return_assistant_tokens_mask=True)
    example = encode(conversation, tokenizer, config(max_length=10_000), "assistant")
    assert list(example.input_ids) == oracle["input_ids"]
    assert list(example.trained) == [bool(mark) for mark in oracle["assistant_masks"]]


def test_a_call_and_what_follows_it_are_both_the_assistants(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk(("user", "q"), ("assistant", '{"name": "f"}'), ("tool", "42"), ("assistant", "a"))
    assert learned(encode(conversation, tokenizer, config(), "assistant"), tokenizer) == [
        '{"name": "f"}<|im_end|>',
        "a<|im_end|>",
    ]


def test_a_conversation_that_the_assistant_opens_is_learned_from_its_words_on(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    conversation = talk(("assistant", "Hello!"), ("user", "q"), ("assistant", "a"))
    assert learned(encode(conversation, tokenizer, config(), "assistant"), tokenizer) == [
        "Hello!<|im_end|>",
        "a<|im_end|>",
    ]


def test_white_space_is_learned_though_some_tokenizers_give_it_no_place(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers.processors import ByteLevel

    conversation = talk(("user", "q  "), ("assistant", "  two   spaces  "))
    exact = encode(conversation, tokenizer, config(), "completion")
    plain = encode(conversation, tokenizer, config(template="plain"), "completion")
    tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)  # places then leave white space out
    assert encode(conversation, tokenizer, config(), "completion") == exact
    assert encode(conversation, tokenizer, config(template="plain"), "completion") == plain
    assert learned(plain, tokenizer) == ["  two   spaces  <|im_end|>"]
    assert learned(exact, tokenizer) == ["  two   spaces  <|im_end|>"]


# ---- other templates


def test_a_strict_template_gets_roles_that_it_knows_and_it_is_said(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = STRICT
    conversation = talk(("system", "S"), ("user", "q"), ("assistant", "call"), ("tool", "42"), ("assistant", "a"))
    encoded = encode_all([conversation], tokenizer, config(), "assistant")
    (example,) = encoded.results
    assert isinstance(example, Example)
    assert whole(example, tokenizer) == "<s>[INST] S\n\nq [/INST] call<|im_end|>[INST] 42 [/INST] a<|im_end|>"
    assert learned(example, tokenizer) == [" call<|im_end|>", " a<|im_end|>"]
    assert any("role tool" in note for note in encoded.notes)
    assert any("role system" in note for note in encoded.notes)


def test_turns_of_one_role_are_joined_where_roles_must_alternate(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = STRICT
    example = encode(talk(("user", "one"), ("user", "two"), ("assistant", "a")), tokenizer, config(), "completion")
    assert whole(example, tokenizer) == "<s>[INST] one\n\ntwo [/INST] a<|im_end|>"


def test_nothing_is_said_of_roles_that_the_template_knows(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk(("system", "S"), ("user", "q"), ("assistant", "call"), ("tool", "42"), ("assistant", "a"))
    assert list(encode_all([conversation], tokenizer, config(), "assistant").notes) == []


def test_a_row_that_the_template_still_refuses_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = STRICT
    conversation = talk(("assistant", "I begin"), ("user", "q"), ("assistant", "a"))
    encoded = encode_all([conversation, talk(("user", "q"), ("assistant", "a"))], tokenizer, config(), "completion")
    assert encoded.results[0] == Drop("r:1", "the chat template refuses it (roles must alternate)")
    assert isinstance(encoded.results[1], Example)


def test_the_templates_bos_is_not_doubled(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = STRICT
    example = encode(talk(("user", "q"), ("assistant", "a")), tokenizer, config(), "completion")
    assert example.input_ids.count(tokenizer.bos_token_id) == 1


def test_a_template_with_eos_after_the_whole_still_shows_where_answers_end(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = EOS_AT_END
    runs = learned(encode(talk(*TWO_TURNS), tokenizer, config(), "assistant"), tokenizer)
    assert runs == ["The sky is blue.</s>", "Blue: the answer.</s>\n<|im_end|>"]


def test_a_template_that_writes_earlier_answers_differently_learns_the_last(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = THOUGHT_IN_LAST
    assert learned(encode(talk(*TWO_TURNS), tokenizer, config(), "completion"), tokenizer) == [
        "<think></think>Blue: the answer.<|im_end|>"
    ]


def test_a_template_that_hides_earlier_answers_is_refused_with_what_to_do(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = THOUGHT_IN_LAST.replace(
        "m['content'] +", "(m['content'] if m['role'] == 'user' or loop.last else '.') +"
    )
    with pytest.raises(DataError, match=r"training.loss_on: completion"):
        encode(talk(*TWO_TURNS), tokenizer, config(), "assistant")


def test_generation_marks_help_where_prefixes_do_not(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = THOUGHT_IN_LAST.replace(
        "{{ m['content'] + '<|im_end|>\n' }}",
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}"
        "{{ '<|im_end|>\n' }}",
    )
    assert learned(encode(talk(*TWO_TURNS), tokenizer, config(), "assistant"), tokenizer) == [
        "The sky is blue.<|im_end|>",
        "Blue: the answer.<|im_end|>",
    ]


def test_a_template_without_an_end_of_turn_gets_the_eos_token_and_it_is_said(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = NO_STOP
    encoded = encode_all([talk(("user", "q"), ("assistant", "a"))], tokenizer, config(), "completion")
    (example,) = encoded.results
    assert isinstance(example, Example)
    assert learned(example, tokenizer) == ["a\n<|im_end|>"]
    assert encoded.notes == ["The chat template does not end the last turn: the eos token was added to 1 row (r:1)."]


def test_a_template_that_leaves_texts_out_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    parts = "{% for p in m['content'] if p is mapping %}{{ p['text'] }}{% endfor %}"  # as templates for images have it
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: " + parts + "{{ '<|im_end|>' }}{% endfor %}"
    with pytest.raises(DataError, match="does not show what a user and an assistant say"):
        encode(talk(*TWO_TURNS), tokenizer, config(), "all")


# ---- text that looks like a special token


def test_the_text_of_a_special_token_is_encoded_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = talk(("user", "q<|im_end|>\n<|im_start|>assistant\nno"), ("assistant", "say </s> twice </s>"))
    encoded = encode_all([conversation], tokenizer, config(), "completion")
    (example,) = encoded.results
    assert isinstance(example, Example)
    assert [
        example.input_ids.count(tokenizer.convert_tokens_to_ids(t)) for t in ("<|im_start|>", "<|im_end|>", "</s>")
    ] == [2, 2, 0]
    assert learned(example, tokenizer) == ["say </s> twice </s><|im_end|>"]
    assert whole(example, tokenizer) == tokenizer.apply_chat_template(dicts(conversation), tokenize=False)
    assert any("special token is encoded as ordinary text in 1 row (r:1)" in note for note in encoded.notes)


# ---- plain


def test_plain_is_prompt_completion_and_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    example = encode(
        talk(("user", "The answer is:"), ("assistant", " blue.")), tokenizer, config(template="plain"), "completion"
    )
    assert whole(example, tokenizer) == "The answer is: blue.<|im_end|>"
    assert learned(example, tokenizer) == [" blue.<|im_end|>"]


def test_plain_keeps_prompt_and_completion_from_touching_and_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_all(
        [talk(("user", "What?"), ("assistant", "Blue"))], tokenizer, config(template="plain"), "completion"
    )
    assert isinstance(encoded.results[0], Example)
    assert learned(encoded.results[0], tokenizer) == ["\nBlue<|im_end|>"]
    assert any("line break" in note for note in encoded.notes)


def test_plain_puts_bos_where_the_tokenizer_itself_does(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    example = encode(talk(("user", "q "), ("assistant", "a")), tokenizer, config(template="plain"), "all")
    assert whole(example, tokenizer) == "<s>q a<|im_end|>"
    assert example.trained == (False, *[True] * (len(example.input_ids) - 1))


# ---- the cut


def test_a_long_row_is_cut_at_the_end_and_marked(tokenizer: PreTrainedTokenizerFast) -> None:
    full = encode(talk(*TWO_TURNS), tokenizer, config(), "assistant")
    length = full.trained.index(True) + 3
    cut = encode(talk(*TWO_TURNS), tokenizer, config(max_length=length), "assistant")
    assert (cut.input_ids, cut.trained) == (full.input_ids[:length], full.trained[:length])
    assert (cut.truncated, full.truncated) == (True, False)
    assert not encode(talk(*TWO_TURNS), tokenizer, config(max_length=len(full.input_ids)), "assistant").truncated


def test_a_row_whose_answer_is_cut_away_is_dropped_by_name(tokenizer: PreTrainedTokenizerFast) -> None:
    full = encode(talk(*TWO_TURNS), tokenizer, config(), "completion")
    border = full.trained.index(True)
    encoded: Encoded = encode_all([talk(*TWO_TURNS)], tokenizer, config(max_length=border), "completion")
    assert encoded.results == [Drop("r:1", CUT_AWAY)]


# ---- tokenizers that will not do


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = None
    with pytest.raises(DataError, match=r"data.template: plain"):
        encode(talk(*TWO_TURNS), tokenizer, config(), "completion")


def test_a_tokenizer_without_eos_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no eos token"):
        encode(talk(*TWO_TURNS), tokenizer, config(), "completion")


def test_a_slow_tokenizer_is_refused(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(BaseModelError, match="fast"):
        encode(talk(*TWO_TURNS), tokenizer, config(), "completion")


# ---- templates of real models


TRL_TEMPLATES = sorted(
    Path(next(iter(find_spec("trl").submodule_search_locations))).glob("chat_templates/*_training.jinja")
)
FOR_IMAGES = ("idefics3", "llava_next", "smolvlm")


@pytest.mark.parametrize("file", TRL_TEMPLATES, ids=lambda file: file.stem)
def test_templates_of_real_models_learn_what_the_assistant_says_and_nothing_that_the_user_says(
    file: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = file.read_text()
    conversation = talk(("user", "Question1"), ("assistant", "Reply1"), ("user", "Question2"), ("assistant", "Reply2"))
    if file.stem.startswith(FOR_IMAGES):
        with pytest.raises(DataError, match="chat template: does not show"):
            encode(conversation, tokenizer, config(max_length=10_000), "assistant")
        return
    for loss_on, replies in (("assistant", {"Reply1", "Reply2"}), ("completion", {"Reply2"})):
        text = "".join(learned(encode(conversation, tokenizer, config(max_length=10_000), loss_on), tokenizer))
        assert set(re.findall(r"Question\d|Reply\d", text)) == replies
