"""System text, tools, history and reasoning in columns of their own are used in every format alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunery.config.data import SourceConfig
from tunery.data.layouts.convert import Converted, to_conversations
from tunery.data.reading.rows import collect
from tunery.records.rows import Conversation

FORMATS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "q", "output": "a"},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "columns": {"Question": "q", "Answer": "a"},
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "lima": {"conversations": ["q", "a"]},
}
every_format = pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)


def convert(row: dict[str, Any]) -> Converted:
    rows = collect("r.json", "r.json", [(1, row)], "digest")
    return to_conversations(rows, SourceConfig(source="r.json"), index=0)


def only(row: dict[str, Any]) -> Conversation:
    converted = convert(row)
    assert converted.bad == []
    assert converted.unused == {}
    return converted.conversations[0]


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


PAIR = [("user", "q"), ("assistant", "a")]


@every_format
@pytest.mark.parametrize("name", ["system", "system_prompt", "System Message"])
def test_a_system_text_begins_the_conversation(row: dict[str, Any], name: str) -> None:
    assert turns(only({**row, name: "be brief"})) == [("system", "be brief"), *PAIR]


def test_a_system_text_that_the_turns_repeat_is_said_once() -> None:
    messages = [{"role": "system", "content": "S"}, *FORMATS["messages"]["messages"]]
    assert turns(only({"messages": messages, "system": "S"})) == [("system", "S"), *PAIR]


@every_format
@pytest.mark.parametrize(
    "tools",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{"name": "f"}]},
        {"tools": '[{"name": "f"}]'},
        {"tools": {"name": "f"}},
        {"tools": ['{"name": "f"}']},
        {"functions": [{"name": "f"}]},
    ],
)
def test_older_and_newer_descriptions_of_tools_are_one(row: dict[str, Any], tools: dict[str, Any]) -> None:
    assert json.loads(only({**row, **tools}).tools) == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("tools", ["[]", [], None, "", "null"])
def test_no_tools_are_none(tools: Any) -> None:
    assert only({**FORMATS["sharegpt"], "tools": tools}).tools == ""


@every_format
@pytest.mark.parametrize(
    "history",
    [
        [["q0", "a0"]],
        ["q0", "a0"],
        [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "a0"}],
        '[["q0", "a0"]]',
    ],
)
def test_history_comes_before_the_turns(row: dict[str, Any], history: Any) -> None:
    conversation = only({**row, "history": history, "system": "S"})
    assert turns(conversation) == [("system", "S"), ("user", "q0"), ("assistant", "a0"), *PAIR]


def test_a_history_of_texts_without_answers_is_a_bad_row() -> None:
    converted = convert({**FORMATS["alpaca"], "history": [["q0", "a0"], ["q1"]]})
    assert [drop.reason for drop in converted.bad] == ["history does not hold pairs of a prompt and an answer"]


def test_a_text_about_history_is_told_and_not_used() -> None:
    converted = convert({**FORMATS["alpaca"], "history": "The war ended in 1945."})
    assert turns(converted.conversations[0]) == PAIR
    assert any("column 'history' is not used" in note for note in converted.notes)


@every_format
@pytest.mark.parametrize("name", ["reasoning", "thinking", "Complex_CoT"])
def test_a_column_of_reasoning_belongs_to_the_last_answer(row: dict[str, Any], name: str) -> None:
    conversation = only({**row, name: "because", "history": [["q0", "a0"]]})
    assert [message.reasoning for message in conversation.messages] == ["", "", "", "because"]


@every_format
@pytest.mark.parametrize("switch", ["on", "off", "Low", "true"])
def test_a_column_that_switches_reasoning_is_told_and_not_learned(row: dict[str, Any], switch: str) -> None:
    converted = convert({**row, "reasoning": switch})
    assert turns(converted.conversations[0]) == PAIR
    assert [message.reasoning for message in converted.conversations[0].messages] == ["", ""]
    assert any("column 'reasoning' is not used" in note for note in converted.notes)


THOUGHT = "<think>\nbecause\n</think>\n\na"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": THOUGHT, "reasoning": "because"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": THOUGHT}], "cot": "because"},
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": THOUGHT, "thinking": "because"},
            ]
        },
    ],
)
def test_reasoning_that_the_answer_holds_already_is_learned_once(row: dict[str, Any]) -> None:
    answer = only(row).messages[-1]
    assert (answer.content, answer.reasoning) == (THOUGHT, "")


def test_reasoning_other_than_what_the_answer_holds_is_told() -> None:
    converted = convert({"prompt": "q", "completion": THOUGHT, "reasoning": "another summary"})
    assert converted.conversations[0].messages[-1].reasoning == ""
    assert any("column 'reasoning' is not used" in note for note in converted.notes)


@every_format
def test_images_are_refused(row: dict[str, Any]) -> None:
    assert [drop.reason for drop in convert({**row, "images": ["a.png"]}).bad] == [
        "has images, but only text can be used"
    ]
    assert convert({**row, "images": []}).bad == []
