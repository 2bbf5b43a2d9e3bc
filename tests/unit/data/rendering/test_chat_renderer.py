"""Templates in the styles of real models: what goes through them, what is learned, what is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig
from tunery.data.rendering.encode import Encoded, encode_all
from tunery.errors import DataError
from tunery.records.rows import Conversation, Drop, Example, Message

TURN = "<|im_start|>{role}\n{text}<|im_end|>\n"
# Tools and calls in tags, each as JSON: as Hermes and Qwen 2.5 do.
HERMES = (
    "{%- if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
    "<tools>\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' or m.role == 'assistant' and not m.tool_calls %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant{{ '\n' + m.content if m.content }}"
    "{% for call in m.tool_calls %}{{ '\n<tool_call>' }}\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n"
    "{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Thoughts stand before the answers after the last question, and nowhere else: as Qwen 3 does.
QWEN3 = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "<think>\n{{ (m.reasoning_content or '') | trim }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Ids of nine characters, strict turns, tools before the last question: as Mistral does.
MISTRAL = (
    "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% set ns = namespace(n=0) %}"
    "{% for m in messages %}{% if m.role == 'user' or m.role == 'assistant' and m.tool_calls is not defined %}"
    "{% if (m.role == 'user') != (ns.n % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ bos_token }}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{% if tools and m == users[-1] %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST] {{ m.content }}[/INST]"
    "{% elif m.tool_calls is defined %}[TOOL_CALLS] [{% for call in m.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids have length 9') }}{% endif %}"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}'
    "{{ ', ' if not loop.last }}{% endfor %}]{{ eos_token }}"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }}{{ eos_token }}"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS] "
    '{"content": {{ m.content | tojson }}, "call_id": "{{ m.tool_call_id }}"}'
    "[/TOOL_RESULTS]{% else %}{{ raise_exception('no system here') }}{% endif %}{% endfor %}"
)
# One call a turn, its arguments as parameters, results as JSON, the date: as Llama 3.1 does.
LLAMA3 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "<|im_start|>system\n{{ 'Environment: ipython\n' if tools }}{{ system }}<|im_end|>\n"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>ipython\n{{ m.content | tojson }}<|im_end|>\n"
    "{% elif m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('only single calls') }}{% endif %}"
    "{% set call = m.tool_calls[0].function %}<|im_start|>assistant\n"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|im_end|>\n'
    "{% else %}<|im_start|>{{ m.role }}\n"
    "{% if tools and loop.first %}{% for t in tools %}{{ t | tojson(indent=4) }}\n{% endfor %}{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Arguments are joined to text, which fails for a mapping: as DeepSeek does.
DEEPSEEK = (
    "{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls %}<|im_start|>assistant\n"
    "{% for c in m.tool_calls %}{{ c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}{% endfor %}"
    "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Of an answer only what follows </think>: as R1's distilled models have it.
R1 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{{ m.content.split('</think>') | last }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
R1_PRIMED = R1.replace("prompt %}<|im_start|>assistant\n", "prompt %}<|im_start|>assistant\n<think>\n")
R1_MARKED = R1_PRIMED.replace(
    "{{ m.content.split('</think>') | last }}<|im_end|>",
    "{% generation %}{{ m.content.split('</think>') | last }}<|im_end|>{% endgeneration %}",
)

TOOLS = json.dumps(
    [{"type": "function", "function": {"name": "weather", "description": "Of a place.", "parameters": {}}}]
)
CALL = json.dumps({"name": "weather", "arguments": {"place": "Oslo"}})


def row(*messages: Message, tools: str = "") -> Conversation:
    return Conversation(messages, "r:1", tools=tools)


def asked(*answers: Message, tools: str = "") -> Conversation:
    return row(Message("user", "How is it in Oslo?"), *answers, tools=tools)


CALLED = asked(
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", '{"sky": "grey"}'),
    Message("assistant", "Grey."),
    tools=TOOLS,
)


def encoded(
    conversation: Conversation, tokenizer: Any, chat_template: str, loss_on: str = "auto", **data: Any
) -> Encoded:
    tokenizer.chat_template = chat_template
    config = DataConfig.model_validate({"train": [{"source": "r.json"}], "max_length": 10_000, **data})
    return encode_all([conversation], tokenizer, config, loss_on)


def shown(found: Encoded, tokenizer: Any) -> tuple[str, list[str]]:
    """The whole text and the runs of learned tokens."""
    (example,) = found.results
    assert isinstance(example, Example), example
    runs: list[list[int]] = []
    for place, (token, trained) in enumerate(zip(example.input_ids, example.trained, strict=True)):
        if trained and (place == 0 or not example.trained[place - 1]):
            runs.append([])
        if trained:
            runs[-1].append(token)
    return tokenizer.decode(list(example.input_ids)), [tokenizer.decode(run) for run in runs]


# ---- tools and calls


@pytest.mark.parametrize(
    ("template", "tools", "call"),
    [
        (HERMES, "<tools>", '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo"}}\n</tool_call>'),
        (
            MISTRAL,
            "[AVAILABLE_TOOLS]",
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"place": "Oslo"}, "id": "call00001"}]',
        ),
        (LLAMA3, "Environment: ipython", '{"name": "weather", "parameters": {"place": "Oslo"}}'),
    ],
)  # fmt: skip
def test_tools_and_calls_go_through_a_template_that_shows_them(
    template: str, tools: str, call: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = encoded(CALLED, tokenizer, template)
    text, learned = shown(found, tokenizer)
    assert tools in text
    assert [run.strip() for run in learned] == [f"{call}<|im_end|>", "Grey.<|im_end|>"]
    assert found.notes == []


def test_arguments_are_text_for_a_template_that_joins_them(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(CALLED, tokenizer, DEEPSEEK)
    _, learned = shown(found, tokenizer)
    assert learned[0] == 'weather\n```json\n{"place": "Oslo"}\n```<|im_end|>'
    assert found.notes == ["The chat template does not show tools: they are put into the system text of 1 row (r:1)."]


PLAIN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_what_a_template_does_not_show_is_written_out_and_told(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(CALLED, tokenizer, PLAIN_CHAT)
    text, learned = shown(found, tokenizer)
    assert text.startswith(f"<|im_start|>system\nYou can call these tools, described as JSON:\n{TOOLS}<|im_end|>\n")
    assert learned == [f"{CALL}<|im_end|>", "Grey.<|im_end|>"]
    assert len(found.notes) == 2
    assert "does not show the tool calls of 1 row (r:1): they are written as JSON" in found.notes[1]


def test_a_template_that_takes_one_call_alone_gets_two_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    other = json.dumps({"name": "weather", "arguments": {"place": "Rome"}})
    results = (Message("tool", "grey"), Message("tool", "blue"))
    found = encoded(
        asked(Message("assistant", "", tool_calls=(CALL, other)), *results, Message("assistant", "So.")),
        tokenizer,
        LLAMA3,
    )
    assert shown(found, tokenizer)[1] == [f"{CALL}\n{other}<|im_end|>", "So.<|im_end|>"]
    assert "they are written as JSON" in found.notes[0]


def test_words_of_a_tool_in_the_question_do_not_pass_for_the_tool(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = row(Message("user", "What is the weather?"), Message("assistant", "Grey."), tools=TOOLS)
    text, _ = shown(encoded(conversation, tokenizer, PLAIN_CHAT), tokenizer)
    assert TOOLS in text


def test_texts_of_special_tokens_in_calls_tools_and_thoughts_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    sneaky = CALL.replace("Oslo", "\\u003c|im_end|>")
    found = encoded(
        asked(
            Message("assistant", "", reasoning="<|im_end|>", tool_calls=(sneaky,)),
            tools=TOOLS.replace("Of a", "<|im_end|>"),
        ),
        tokenizer,
        HERMES,
    )
    (example,) = found.results
    assert isinstance(example, Example)
    text, _ = shown(found, tokenizer)
    assert text.count("<|im_end|>") == 6
    assert example.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3  # system, user, assistant


def test_plain_rows_have_all_of_it_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(
        asked(Message("assistant", "Hm.", reasoning="North.", tool_calls=(CALL,)), tools=TOOLS),
        tokenizer,
        PLAIN_CHAT,
        template="plain",
    )
    text, _ = shown(found, tokenizer)
    assert text.startswith(f"You can call these tools, described as JSON:\n{TOOLS}\nHow is it in Oslo?")
    assert text.endswith(f"<think>\nNorth.\n</think>\n\nHm.\n{CALL}<|im_end|>")


# ---- reasoning


THOUGHT = asked(Message("assistant", "Grey.", reasoning="It is north."))


def test_reasoning_goes_through_a_template_that_shows_it(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(THOUGHT, tokenizer, QWEN3)
    assert shown(found, tokenizer)[1] == ["<think>\nIt is north.\n</think>\n\nGrey.<|im_end|>"]
    assert found.notes == []


def test_reasoning_is_put_into_the_answer_where_a_template_does_not_show_it(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(THOUGHT, tokenizer, PLAIN_CHAT)
    assert shown(found, tokenizer)[1] == ["<think>\nIt is north.\n</think>\n\nGrey.<|im_end|>"]
    assert found.notes == [
        "The chat template does not show reasoning: it is put into the answers of 1 row (r:1) as <think>."
    ]


@pytest.mark.parametrize("answer", [Message("assistant", "<think>North.</think>\n\nGrey."), THOUGHT.messages[1]])
def test_an_answer_that_the_template_cuts_is_told(answer: Message, tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(asked(answer), tokenizer, R1)
    assert [run.strip() for run in shown(found, tokenizer)[1]] == ["Grey.<|im_end|>"]
    assert "shows only a part of the learned answers of 1 row (r:1)" in found.notes[0]
    assert "Set base.chat_template to one that keeps it" in found.notes[0]


def test_an_answer_that_the_template_only_trims_is_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    assert encoded(asked(Message("assistant", "  Grey. \n")), tokenizer, MISTRAL).notes == []


def test_a_template_that_asks_by_more_than_it_writes_is_refused_with_what_to_do(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(DataError, match=r"asks for an answer by .*<think>.*base\.chat_template .*keeps <think>"):
        encoded(asked(Message("assistant", "<think>North.</think>\n\nGrey.")), tokenizer, R1_PRIMED)


def test_marks_in_such_a_template_do_not_make_it_right(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(asked(Message("assistant", "<think>North.</think>\n\nGrey.")), tokenizer, R1_MARKED)
    assert "shows only a part" in found.notes[0]
    assert "the model is asked otherwise than it is trained" in found.notes[1]


def test_a_system_text_that_the_template_leaves_out_is_told(tokenizer: PreTrainedTokenizerFast) -> None:
    first_alone = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{% continue %}{% endif %}"
    late = PLAIN_CHAT.replace("{% for m in messages %}", first_alone)
    talk = row(Message("user", "q"), Message("system", "Be brief."), Message("assistant", "a"))
    found = encoded(talk, tokenizer, late)
    assert "leaves out something that a user, a tool or the system says in 1 row (r:1)" in found.notes[0]


# ---- what is learned


TWO = (Message("user", "one"), Message("assistant", "first"), Message("user", "two"), Message("assistant", "second"))


def test_every_answer_is_learned_by_default(tokenizer: PreTrainedTokenizerFast) -> None:
    assert shown(encoded(row(*TWO), tokenizer, PLAIN_CHAT), tokenizer)[1] == ["first<|im_end|>", "second<|im_end|>"]


def test_two_answers_in_a_row_are_one_where_the_template_writes_the_first_otherwise_than_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    found = encoded(
        row(Message("user", "What is the sky?"), Message("assistant", "Grey."), Message("assistant", "Or blue.")),
        tokenizer,
        QWEN3,
    )
    _, learned = shown(found, tokenizer)
    assert learned == ["<think>\n\n</think>\n\nGrey.\n\nOr blue.<|im_end|>"]
    assert any("turns of one role in a row" in note for note in found.notes)


@pytest.mark.parametrize("greeting", ["assistant", "Hello", "I"])
def test_of_a_row_that_begins_with_the_assistant_no_word_of_the_template_is_learned(
    greeting: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    begin = "<|im_start|>system\nI am a helpful assistant. Say Hello.<|im_end|>\n"
    template = begin.replace("\n", "{{ '\\n' }}") + str(tokenizer.chat_template)
    talk = row(Message("assistant", greeting), Message("user", "q"), Message("assistant", "a"))
    text, learned = shown(encoded(talk, tokenizer, template), tokenizer)
    assert text.startswith(f"{begin}<|im_start|>assistant\n{greeting}<|im_end|>")
    assert learned == [f"{greeting}<|im_end|>", "a<|im_end|>"]


def test_an_earlier_answer_that_is_written_otherwise_than_the_last_is_found(tokenizer: PreTrainedTokenizerFast) -> None:
    _, learned = shown(encoded(row(*TWO), tokenizer, QWEN3), tokenizer)
    assert learned == ["first<|im_end|>", "<think>\n\n</think>\n\nsecond<|im_end|>"]


def test_an_earlier_answer_without_its_thoughts_is_not_learned_and_it_is_told(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    thoughtful = (
        TWO[0],
        Message("assistant", "first", reasoning="why"),
        *TWO[2:3],
        Message("assistant", "second", reasoning="because"),
    )
    found = encoded(row(*thoughtful), tokenizer, QWEN3)
    assert shown(found, tokenizer)[1] == ["<think>\nbecause\n</think>\n\nsecond<|im_end|>"]
    assert "Only the last answer is learned of 1 row (r:1)" in found.notes[0]


@pytest.mark.parametrize(
    ("loss_on", "learned"),
    [
        ("auto", ["second<|im_end|>"]),
        ("assistant", ["second<|im_end|>"]),
        ("completion", ["second<|im_end|>"]),
        (
            "all",
            [
                "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n",
                "\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\nsecond<|im_end|>",
            ],
        ),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_learned_is_shown(
    loss_on: str, learned: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    shown_only = (TWO[0], Message("assistant", "first", learned=False), *TWO[2:])
    text, runs = shown(encoded(row(*shown_only), tokenizer, PLAIN_CHAT, loss_on), tokenizer)
    assert "first" in text
    assert runs == learned


def test_nothing_is_learned_after_a_last_answer_that_is_not(tokenizer: PreTrainedTokenizerFast) -> None:
    no_stop = PLAIN_CHAT.replace("<|im_end|>", "")
    talk = (*TWO[:3], Message("assistant", "second", learned=False))
    assert shown(encoded(row(*talk), tokenizer, PLAIN_CHAT), tokenizer)[1] == ["first<|im_end|>"]
    text, _ = shown(encoded(row(*talk), tokenizer, no_stop), tokenizer)
    assert text.endswith("second\n")


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_a_row_with_nothing_to_learn_is_bad(template: str, tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(asked(Message("assistant", "Grey.", learned=False)), tokenizer, PLAIN_CHAT, template=template)
    (drop,) = found.results
    assert isinstance(drop, Drop)
    assert drop.reason.startswith("nothing to learn")


# ---- where a turn ends


def test_a_turn_that_ends_in_a_line_break_is_ended_once_when_all_is_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    found = encoded(row(*TWO[:2]), tokenizer, PLAIN_CHAT, "all")
    text, (learned,) = shown(found, tokenizer)
    assert learned.endswith("first<|im_end|>")
    assert text.count("<|im_end|>") == 2
    assert found.notes == []


def test_a_token_that_ends_no_turn_does_not_pass_for_the_end_of_one(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens(["</call>", "\n\n"])
    no_stop = PLAIN_CHAT.replace("<|im_end|>\n", "\n\n")
    _, learned = shown(encoded(row(TWO[0], Message("assistant", "<call></call>")), tokenizer, no_stop), tokenizer)
    assert learned[0].endswith("<|im_end|>")


def test_a_template_that_ends_an_answer_twice_is_told(tokenizer: PreTrainedTokenizerFast) -> None:
    twice = PLAIN_CHAT.replace(
        "{{ m.content }}<|im_end|>", "{{ m.content }}{{ '</s>' if m.role == 'assistant' }}<|im_end|>"
    )
    assert "ends answers of 1 row (r:1) twice" in encoded(row(*TWO), tokenizer, twice).notes[0]


def test_an_answer_that_ends_in_the_text_of_an_end_token_is_told(tokenizer: PreTrainedTokenizerFast) -> None:
    notes = encoded(asked(Message("assistant", "Grey.</s>")), tokenizer, PLAIN_CHAT).notes
    assert "Answers of 1 row (r:1) end in the text of a special token" in notes[0]


def test_a_cut_that_takes_the_end_token_is_told_and_one_of_a_line_break_is_not(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    (whole,) = encoded(row(*TWO[:2]), tokenizer, PLAIN_CHAT).results
    assert isinstance(whole, Example)
    length = len(whole.input_ids)
    for shorter, told in ((1, False), (2, True)):
        notes = encoded(row(*TWO[:2]), tokenizer, PLAIN_CHAT, max_length=length - shorter).notes
        assert any("lost the end of an answer at data.max_length" in note for note in notes) is told
