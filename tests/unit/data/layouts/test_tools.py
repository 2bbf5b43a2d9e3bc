"""Calls of tools in the forms that people have are one form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunery.data.layouts.fields import Fields, UnusableRow
from tunery.data.layouts.tools import calls_in, calls_of, tools_of

CALL = '{"name": "f", "arguments": {"x": 1}}'


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        {"tool_calls": '[{"name": "f", "parameters": {"x": 1}}]'},
        {"tool_calls": ['{"name": "f", "arguments": {"x": 1}}']},
        {"function_call": {"name": "f", "arguments": '{"x": 1}'}},
    ],
)
def test_every_form_of_a_call_is_the_same_call(turn: dict[str, Any]) -> None:
    assert calls_of(Fields(turn)) == (CALL,)


def test_arguments_that_are_no_json_stay_text_and_none_are_an_empty_object() -> None:
    calls = calls_of(Fields({"tool_calls": [{"name": "f", "arguments": "x=1"}, {"name": "g", "arguments": None}]}))
    assert [json.loads(call)["arguments"] for call in calls] == ["x=1", {}]


@pytest.mark.parametrize("call", [{"arguments": {}}, {"function": {"name": ""}}, 5])
def test_a_call_without_a_name_makes_a_bad_row(call: Any) -> None:
    with pytest.raises(UnusableRow, match="a tool call without a name"):
        calls_of(Fields({"tool_calls": [call]}))


@pytest.mark.parametrize("text", [CALL, f"[{CALL}]"])
def test_a_turn_may_write_its_calls_as_json(text: str) -> None:
    assert calls_in(text) == (CALL,)


@pytest.mark.parametrize("text", ["I call f.", '{"x": 1}', "5", "[]"])
def test_a_turn_that_writes_anything_else_has_no_calls(text: str) -> None:
    assert calls_in(text) == ()


def test_tools_that_are_no_descriptions_make_a_bad_row() -> None:
    with pytest.raises(UnusableRow, match="not described in JSON"):
        tools_of(Fields({"tools": ["calculator"]}))
