"""A format is recognised by what its columns are called and hold; where two are possible, neither is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from tunery.config.data import SourceConfig
from tunery.data.layouts.convert import to_conversations
from tunery.data.layouts.detect import format_of
from tunery.data.reading.rows import Rows, collect
from tunery.errors import DataError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def rows_of(*values: dict[str, Any]) -> Rows:
    return collect("r.json", "r.json", enumerate(values, start=1), "digest")


def said(row: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    converted = to_conversations(rows_of(row), SourceConfig(source="r.json", **settings), 0)
    assert converted.bad == []
    return [(message.role, message.content) for message in converted.conversations[0].messages]


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("Question", "Answer"), ("prompt", "answer"), ("query", "response"), ("input", "output"), ("problem", "solution")],
)
def test_columns_that_can_only_be_prompt_and_completion_are_taken_and_said(prompt: str, completion: str) -> None:
    row = {prompt: "q", completion: "a", "topic": "t"}
    found = format_of(rows_of(row), SourceConfig(source="r.json"))
    assert found.notes == [
        f"r.json: format columns, detected from columns {prompt!r}, the prompt, and {completion!r}, the completion."
    ]
    assert said(row) == [("user", "q"), ("assistant", "a")]


def test_two_columns_that_could_be_the_completion_are_listed() -> None:
    with pytest.raises(DataError, match=r"several columns can be the completion: solution, answer;.*Set columns"):
        format_of(rows_of({"problem": "q", "solution": "s", "answer": "a"}), SourceConfig(source="r.json"))


def test_a_context_beside_question_and_answer_is_not_left_out_in_silence() -> None:
    row = {"context": "The sky is blue.", "question": "q", "answer": "a"}
    with pytest.raises(DataError, match="'context' may belong to 'question'") as raised:
        format_of(rows_of(row), SourceConfig(source="r.json"))
    assert 'Set columns: {completion: answer}, prompt_template: "{context}\\n\\n{question}"' in str(raised.value)
    advised = {"columns": {"completion": "answer"}, "prompt_template": "{context}\n\n{question}"}
    assert said(row, **advised)[0] == ("user", "The sky is blue.\n\nq")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "choices": ["x", "y"], "answer": 1},
        {"prompt": "q", "completions": ["one", "two"], "labels": [True, False]},
        {"text": "t", "tags": ["x", "y"]},
    ],
)
def test_a_list_of_texts_is_a_dialogue_only_where_its_column_says_so(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="format cannot be detected"):
        format_of(rows_of(row), SourceConfig(source="r.json"))


def test_of_two_columns_of_turns_none_is_taken_by_its_place() -> None:
    with pytest.raises(DataError, match=r"several columns hold turns \(first, second\).*Name it 'messages'"):
        format_of(rows_of({"first": TURNS, "second": TURNS}), SourceConfig(source="r.json"))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "input": "i", "response": "a"},
        {"INSTRUCTION": "q\n\ni", "RESPONSE": "a"},
        {"instruction": "q", "context": "i", "response": "a", "category": "c"},
    ],
)
def test_spellings_of_alpaca_are_alpaca(row: dict[str, Any]) -> None:
    assert format_of(rows_of(row), SourceConfig(source="r.json")).format == "alpaca"
    assert said(row) == [("user", "q\n\ni"), ("assistant", "a")]


def test_roles_and_values_may_be_mixed() -> None:
    row = {"conversations": [{"role": "user", "value": "q"}, {"role": "model", "value": "a"}]}
    assert said(row) == [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("row", "rivals"),
    [
        ({"instruction": "Answer.", "question": "2 + 2?", "output": "4"}, "'instruction' and 'question'"),
        ({"instruction": "Answer.", "query": "2 + 2?", "response": "4"}, "'instruction' and 'query'"),
        ({"prompt": "Answer.", "question": "2 + 2?", "completion": "4"}, "'prompt' and 'question'"),
        ({"prompt": "2 + 2?", "completion": "4", "response": "four"}, "'completion' and 'response'"),
    ],
)
def test_a_further_column_that_could_be_meant_is_not_left_out_in_silence(row: dict[str, Any], rivals: str) -> None:
    with pytest.raises(DataError, match=rf"{rivals} can both be the .*Set format: ") as raised:
        format_of(rows_of(row), SourceConfig(source="r.json"))
    named = str(raised.value).partition("Set format: ")[2].split()[0]
    assert len(said(row, format=named)) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Add.", "input": "2 + 2", "output": "4", "prompt": "Below is a task.\nadd.\n2 + 2\nAnswer:"},
        {"instruction": "Add 2 and 2.", "output": "It is 4.", "answer": "4"},
        {"prompt": "Q: 2 + 2?\nA:", "completion": "4", "question": "2 + 2?"},
        {"instruction": "Add 2 and 2.", "output": "4", "user": "mary", "generation": 3},
    ],
)
def test_a_column_that_says_the_same_again_is_no_rival(row: dict[str, Any]) -> None:
    assert len(said(row)) == 2


@pytest.mark.parametrize("column", ["response", "completion", "answer", "Output"])
@pytest.mark.parametrize("earlier", [[], TURNS])
@pytest.mark.parametrize("settings", [{}, {"format": "messages"}])
def test_turns_that_end_with_a_question_take_the_answer_beside_them(
    column: str, earlier: list[dict[str, str]], settings: dict[str, Any]
) -> None:
    row = {"messages": [*earlier, {"role": "user", "content": "q2"}], column: "a2"}
    assert said(row, **settings)[-2:] == [("user", "q2"), ("assistant", "a2")]
    note = format_of(rows_of(row), SourceConfig(source="r.json")).notes[0]
    assert f"with the last answer in {column!r}" in note


def test_a_chosen_answer_goes_before_any_other_beside_the_turns() -> None:
    row = {"messages": [{"role": "user", "content": "q"}], "chosen": "good", "rejected": "bad", "answer": "42"}
    assert said(row, format="messages") == [("user", "q"), ("assistant", "good")]
