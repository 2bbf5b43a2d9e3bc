"""Calls of tools and descriptions of tools, from the forms that people have to one JSON text each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunery.data.layouts.fields import TOOLS, Fields, UnusableRow
from tunery.data.reading import strict_json
from tunery.data.reading.rows import is_blank


def calls_of(turn: Fields) -> tuple[str, ...]:
    """The calls in a turn's tool_calls and, in OpenAI's older form, its function_call.

    Returns:
        Each as JSON: {"name": ..., "arguments": {...}}.

    Raises:
        UnusableRow: At a call without a name.
    """
    return tuple(
        _call(call) for key in ("tool_calls", "function_call") for call in _listed(turn.get(key), f"{key} is not JSON")
    )


def calls_in(text: str) -> tuple[str, ...]:
    """The calls that a turn of the role function_call writes as JSON; none where the text is anything else."""
    try:
        found = _listed(text, "")
    except UnusableRow:
        return ()
    is_call = [isinstance(call, Mapping) and "name" in call for call in found]
    return tuple(map(_call, found)) if all(is_call) else ()


def tools_of(row: Fields) -> str:
    """The descriptions of tools in a row, in OpenAI's newer form, as a JSON list; the empty text where there are none.

    Raises:
        UnusableRow: When they are no JSON objects.
    """
    described = [
        tool for name in row.names(TOOLS) for tool in _listed(row.get(name), f"{name} is not a description in JSON")
    ]
    return _json([_described(tool) for tool in described]) if described else ""


def _described(tool: object) -> Mapping[str, Any]:
    if isinstance(tool, str):
        (tool,) = _listed(tool, "a tool is not described in JSON") or [None]
    if not isinstance(tool, Mapping) or not isinstance(tool.get("function", tool), Mapping):
        raise UnusableRow("a tool is not described by a JSON object")
    return tool if "function" in tool else {"type": "function", "function": tool}


def _listed(value: Any, fault: str) -> Sequence[Any]:
    """A list as it is or written as JSON text, one object alone as a list of one."""
    if isinstance(value, str):
        try:
            value = strict_json.loads(value)
        except ValueError as error:
            raise UnusableRow(f"{fault} ({error})") from None
    if is_blank(value):
        return []
    return value if isinstance(value, list | tuple) else [value]


def _call(call: object) -> str:
    with suppress(UnusableRow):
        (call,) = _listed(call, "") or [None]
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise UnusableRow("a tool call without a name")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        with suppress(ValueError):  # text that is not JSON stays as it is
            arguments = json.loads(arguments)
    return _json({"name": function["name"], "arguments": {} if arguments is None else arguments})


def _json(value: object) -> str:
    # str: parquet has dates and decimal numbers, which JSON has not.
    return json.dumps(value, ensure_ascii=False, default=str)
