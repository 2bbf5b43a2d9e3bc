"""Every format becomes the same conversations, and what cannot is named."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tunery.config.data import SourceConfig
from tunery.data.layouts.convert import Converted, to_conversations
from tunery.data.reading.rows import collect
from tunery.errors import DataError
from tunery.records.rows import Message


def convert(*rows: Any, **settings: Any) -> Converted:
    source = SourceConfig(source="r.json", **settings)
    return to_conversations(collect("r.json", "r.json", enumerate(rows, start=1), "digest"), source, index=3)


def turns(converted: Converted, place: int = 0) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in converted.conversations[place].messages]


def reasons(converted: Converted) -> list[tuple[str, str]]:
    return [(drop.origin, drop.reason) for drop in converted.bad]


PAIR = [("user", "q"), ("assistant", "a")]
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


# ---- detection


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "messages"),
        ({"chat": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "messages"),
        ({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "messages"),
        ({"prompt": "q", "completion": "a"}, "prompt-completion"),
        ({"conversations": ["q", "a"], "source": "s"}, "lima"),
        (
            {"messages": json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])},
            "messages",
        ),
    ],
)
def test_a_format_is_detected_and_said(row: dict[str, Any], name: str) -> None:
    converted = convert(row)
    assert converted.format == name
    assert turns(converted) == PAIR
    assert f"format {name}, detected from column" in converted.notes[0]


def test_nothing_is_said_when_the_format_was_named() -> None:
    assert list(convert({"prompt": "q", "completion": "a"}, format="prompt-completion").notes) == []


def test_detection_looks_past_a_first_row_without_a_value() -> None:
    converted = convert({"conversations": None, "id": 1}, {"conversations": ["q", "a"], "id": 2})
    assert converted.format == "lima"
    assert reasons(converted) == [("r.json:1", "no conversation")]


def test_an_unknown_layout_lists_the_columns_and_what_to_write() -> None:
    with pytest.raises(
        DataError, match=r"columns are Question, Answer.*columns: \{prompt: Question, completion: Answer\}"
    ):
        convert({"Question": "q", "Answer": "a", "Response": "b"})


def test_a_named_format_without_its_columns_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"needs the columns instruction, output; the columns are question, answer\. Set columns"
    ):
        convert({"question": "q", "answer": "a"}, format="alpaca")


def test_a_format_of_turns_without_turns_is_refused() -> None:
    with pytest.raises(DataError, match="needs a column 'messages' with a list of turns; the columns are text"):
        convert({"text": "q"}, format="messages")


def test_columns_beside_another_format_are_refused() -> None:
    with pytest.raises(DataError, match="format is 'alpaca', but must be columns or auto"):
        convert({"q": "q", "a": "a"}, format="alpaca", columns={"prompt": "q", "completion": "a"})


# ---- alpaca, prompt-completion, columns


def test_alpacas_input_follows_the_instruction_after_a_blank_line() -> None:
    assert turns(convert({"instruction": "sum", "input": "1 2", "output": "3"}))[0] == ("user", "sum\n\n1 2")


def test_prompt_and_completion_may_be_lists_of_messages() -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
    assert turns(convert(row)) == PAIR


def test_columns_of_any_name_become_system_prompt_and_completion() -> None:
    settings = {"columns": {"system": "S", "prompt": "Q", "completion": "A"}}
    assert turns(convert({"S": "be brief", "Q": "q", "A": "a", "Topic": "t"}, **settings)) == [
        ("system", "be brief"),
        *PAIR,
    ]


def test_a_label_that_is_a_number_is_written_out() -> None:
    assert turns(convert({"q": "q", "label": 0}, columns={"prompt": "q", "completion": "label"}))[1] == (
        "assistant",
        "0",
    )


def test_a_prompt_template_builds_the_prompt() -> None:
    converted = convert({"p": "x", "h": "y", "l": "yes"}, columns={"completion": "l"}, prompt_template="{p} then {h}?")
    assert turns(converted) == [("user", "x then y?"), ("assistant", "yes")]


def test_a_template_column_that_is_blank_is_said_and_all_blank_is_no_prompt() -> None:
    rows = [{"p": "x", "h": "", "l": "yes"}, {"p": None, "h": "", "l": "no"}]
    converted = convert(*rows, columns={"completion": "l"}, prompt_template="{p} {h}")
    assert reasons(converted) == [("r.json:2", "no prompt")]
    assert any("2 of 2 rows have nothing in 'h'" in note for note in converted.notes)


@pytest.mark.parametrize("inside", ["row.__class__", "row[0]", "row!r", "row:>9", "0", ""])
def test_what_format_would_evaluate_in_a_template_is_only_a_columns_name(inside: str) -> None:
    with pytest.raises(DataError, match="must be one of the columns: row"):
        convert({"row": "q"}, columns={"completion": "row"}, prompt_template=f"{{{inside}}}")


def test_a_column_that_is_not_there_is_refused_with_the_columns() -> None:
    sentence = (
        "columns.prompt is 'question', but must be one of the columns: Question, Answer. Did you mean 'Question'?"
    )
    with pytest.raises(DataError, match=re.escape(sentence)):
        convert({"Question": "q", "Answer": "a"}, columns={"prompt": "question", "completion": "Answer"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "completion": None}, "no answer"),
        ({"prompt": "q", "completion": " \n"}, "no answer"),
        ({"prompt": "q", "completion": float("nan")}, "no answer"),
        ({"prompt": "q"}, "no answer"),
        ({"prompt": "", "completion": "a"}, "no prompt"),
        ({"prompt": "q", "completion": ["a"]}, "completion is a list instead of text"),
        ({"prompt": "q", "completion": "\udcff"}, "not UTF-8 text (save the file as UTF-8)"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_reason(row: dict[str, Any], reason: str) -> None:
    assert reasons(convert({"prompt": "q", "completion": "a"}, row)) == [("r.json:2", reason)]


def test_a_blank_row_is_named_but_not_bad() -> None:
    converted = convert({"prompt": "q", "completion": "a"}, {"prompt": None, "completion": "  "})
    assert [drop.origin for drop in converted.blank] == ["r.json:2"]
    assert converted.bad == []


# ---- turns


@pytest.mark.parametrize(("asks", "answers"), [("human", "gpt"), ("input", "output"), ("Input", "Output")])
def test_roles_that_a_trainer_documents_are_the_users_and_the_assistants(asks: str, answers: str) -> None:
    converted = convert({"conversations": [{"from": asks, "value": "q"}, {"from": answers, "value": "a"}]})
    assert turns(converted) == PAIR


def test_sharegpt_roles_are_the_projects_roles_and_the_call_is_the_assistants() -> None:
    row = {
        "tools": '[{"name": "f"}]',
        "system": "be brief",
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "42"},
            {"from": "gpt", "value": "a"},
        ],
    }
    (conversation,) = convert(row).conversations
    assert conversation.messages == (
        Message("system", "be brief"),
        Message("user", "q"),
        Message("assistant", "", tool_calls=('{"name": "f", "arguments": {"x": 1}}',)),
        Message("tool", "42"),
        Message("assistant", "a"),
    )
    assert json.loads(conversation.tools) == [{"type": "function", "function": {"name": "f"}}]


def test_text_parts_are_joined_and_an_image_is_refused() -> None:
    good = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": "a"},
        ]
    }
    bad = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "text": None}]},
            {"role": "assistant", "content": "a"},
        ]
    }
    converted = convert(good, bad)
    assert turns(converted) == PAIR
    assert reasons(converted) == [("r.json:2", "turn 1 holds image, but only text can be used")]


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        ([{"from": "human", "value": "q"}], "no answer"),
        ([{"from": "gpt", "value": "a"}], "no prompt"),
        ([{"from": "human", "value": "q"}, {"from": "gpt", "value": ""}], "no answer"),
        ([{"from": "human", "value": ""}, {"from": "gpt", "value": "a"}], "turn 1 (user) is blank"),
        ([{"from": "alien", "value": "q"}, {"from": "gpt", "value": "a"}], "turn 1 has the unknown role 'alien'"),
        (["q"], "turn 1 is not an object with role and content, or from and value"),
        ("text", "conversations is not a list of turns"),
    ],
)
def test_a_dialogue_that_cannot_be_used_is_named_with_its_reason(conversation: Any, reason: str) -> None:
    converted = convert({"conversations": conversation, "id": 1}, format="sharegpt")
    assert reasons(converted) == [("r.json:1", reason)]


def test_lima_turns_alternate_and_what_follows_the_last_answer_is_cut_and_counted() -> None:
    converted = convert({"conversations": ["q", "a", "more?"], "source": "s"})
    assert turns(converted) == PAIR
    assert converted.cut == 1


def test_a_lima_row_without_an_answer_is_bad() -> None:
    assert reasons(convert({"conversations": ["q"], "source": "s"})) == [("r.json:1", "no answer")]


def test_a_conversation_knows_its_row_and_source() -> None:
    conversation = convert({"prompt": "q", "completion": "a"}).conversations[0]
    assert (conversation.origin, conversation.source) == ("r.json:1", 3)
    assert conversation.messages == (Message("user", "q"), Message("assistant", "a"))


# ---- what is learned


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}, {"train": "false"}]
)
def test_a_turn_that_is_marked_so_is_shown_and_not_learned(mark: dict[str, Any]) -> None:
    shown = {"role": "assistant", "content": "no", **mark}
    (row,) = convert({"messages": [TURNS[0], shown, *TURNS]}).conversations
    assert [message.learned for message in row.messages] == [True, False, True, True]


@pytest.mark.parametrize("mark", [{"weight": 1}, {"train": True}, {"weight": None}])
def test_a_turn_that_is_marked_as_learned_is_learned(mark: dict[str, Any]) -> None:
    (row,) = convert({"messages": [TURNS[0], {**TURNS[1], **mark}]}).conversations
    assert row.messages[1].learned


def test_answers_after_the_last_that_is_learned_are_left_out() -> None:
    converted = convert({"messages": [*TURNS, TURNS[0], {"role": "assistant", "content": "BAD", "weight": 0}]})
    assert turns(converted) == PAIR
    assert converted.cut == 1


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"weight": 0}, "no answer that is to be learned"),
        ({"train": False}, "no answer that is to be learned"),
        ({"weight": 0.5}, "turn 2 has weight 0.5, but only 0 and 1 (false and true) can be used"),
        (
            {"train_detail": [{"begin_offset": 0, "end_offset": 0, "train": False}]},
            "turn 2 has train_detail, but a turn is learned whole or not at all",
        ),
    ],
)
def test_a_row_that_cannot_be_learned_as_it_asks_is_bad(mark: dict[str, Any], reason: str) -> None:
    assert reasons(convert({"messages": [TURNS[0], {**TURNS[1], **mark}]})) == [("r.json:1", reason)]


def test_axolotls_wish_to_learn_what_a_user_says_is_told() -> None:
    human = {"from": "human", "value": "q", "train": True}
    converted = convert({"conversations": [human, {"from": "gpt", "value": "a", "train": True}]})
    assert converted.unused == {"key 'train' of turns": 1}
    assert any("key of turns 'train' is not used" in note for note in converted.notes)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_reasoning_is_kept_apart_from_the_answer(key: str) -> None:
    (row,) = convert({"messages": [TURNS[0], {**TURNS[1], key: "because"}]}).conversations
    assert row.messages[1] == Message("assistant", "a", reasoning="because")


def test_a_switch_called_thinking_is_no_reasoning_and_is_told() -> None:
    converted = convert({"messages": [TURNS[0], {**TURNS[1], "thinking": True}]})
    assert converted.conversations[0].messages[1].reasoning == ""
    assert converted.unused == {"key 'thinking' of turns": 1}


def test_two_spellings_of_reasoning_that_differ_make_a_bad_row() -> None:
    row = {"messages": [TURNS[0], {**TURNS[1], "reasoning": "one", "thinking": "two"}]}
    assert reasons(convert(row)) == [("r.json:1", "'reasoning' and 'thinking' mean the same and differ")]


# ---- columns and keys that nobody reads


def test_columns_and_keys_that_nobody_reads_are_counted() -> None:
    row = {"messages": [{**TURNS[0], "name": "Ann"}, TURNS[1]], "topic": "t", "empty": ""}
    converted = convert(row, row)
    assert converted.unused == {"column 'topic'": 2, "key 'name' of turns": 2}
    assert not any("topic" in note for note in converted.notes)


def test_those_that_are_known_to_change_what_is_learned_are_told() -> None:
    row = {"messages": TURNS, "chat_template_kwargs": {"enable_thinking": False}}
    assert (
        "r.json: column 'chat_template_kwargs' is not used, though it can change what is learned (2 rows)."
        in convert(row, row).notes
    )


def test_named_columns_are_read_and_no_others_which_is_told() -> None:
    row = {"q": "q", "a": "a", "system": "S", "label": False}
    converted = convert(row, columns={"prompt": "q", "completion": "a"})
    assert turns(converted) == PAIR
    assert [note.partition(" is not")[0] for note in converted.notes] == [
        "r.json: column 'system'",
        "r.json: column 'label'",
    ]
