"""From the many ways of writing a chat down to messages: roles, contents, tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tunery.data.rows import NOT_UNICODE, is_blank, is_unicode
from tunery.records import Message

_ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",  # the model wrote it, so it is learned like any other answer
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
}


class UnusableRow(ValueError):
    """A row that cannot become a conversation; its text is the reason."""


def text_of(value: object, what: str) -> str:
    """A cell as text; numbers and dates are written out, None and NaN are the empty text.

    Raises:
        UnusableRow: When the cell is a list or an object.
    """
    if isinstance(value, str):
        return value
    if is_blank(value):
        return ""
    if isinstance(value, list | tuple | dict):
        raise UnusableRow(f"{what} is a {'mapping' if isinstance(value, dict) else 'list'} instead of text")
    return str(value)


def dialogue(value: object, what: str) -> Sequence[Any]:
    """A list of turns, also where it is written as JSON text in a cell."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UnusableRow(f"{what} is not JSON ({error})") from None
    if not isinstance(value, list | tuple):
        raise UnusableRow("no conversation" if is_blank(value) else f"{what} is not a list of turns")
    return value


def read_turns(turns: Sequence[Any], role_key: str, content_key: str) -> Iterator[Message]:
    """Messages of a list of turns such as {from, value} or {role, content}; a blank system turn is left out.

    Raises:
        UnusableRow: At an unknown role or a turn without content.
    """
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise UnusableRow(f"turn {number} is not an object with {role_key} and {content_key}")
        role = _ROLES.get(str(turn.get(role_key)).strip().casefold())
        if role is None:
            raise UnusableRow(f"turn {number} has the unknown role {turn.get(role_key)!r}")
        content = _content(turn, content_key, number)
        if content.strip():
            yield Message(role, content)
        elif role != "system":
            missing = role == "assistant" and number == len(turns)
            raise UnusableRow("no answer" if missing else f"turn {number} ({role}) is blank")


def _content(turn: Mapping[str, Any], key: str, number: int) -> str:
    value = turn.get(key)
    text = _joined_parts(value, number) if isinstance(value, list) else text_of(value, f"turn {number}")
    calls = [json.dumps(call, ensure_ascii=False) for call in _calls(turn)]
    return "\n".join([*([text] if text.strip() else []), *calls]) if calls else text


def _joined_parts(parts: Sequence[Any], number: int) -> str:
    texts = []
    for part in parts:
        if isinstance(part, Mapping) and part.get("text") is not None and part.get("type", "text") == "text":
            texts.append(str(part["text"]))
        else:
            kind = part.get("type", "an unknown part") if isinstance(part, Mapping) else type(part).__name__
            raise UnusableRow(f"turn {number} holds {kind}, but only text can be used")
    return "\n".join(texts)


def _calls(turn: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Tool calls in the form that ShareGPT's function_call has: {"name": ..., "arguments": {...}}."""
    single = turn.get("function_call")
    for call in [*(turn.get("tool_calls") or []), *([single] if single else [])]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise UnusableRow("a tool call without a name")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError):  # text that is not JSON stays as it is
                arguments = json.loads(arguments)
        yield {"name": function["name"], "arguments": {} if arguments is None else arguments}


def with_system(messages: Sequence[Message], *texts: str) -> list[Message]:
    """The messages with texts put into one system message at the start, before what a system message there says."""
    first = [messages[0].content] if messages and messages[0].role == "system" else []
    rest = messages[1:] if first else messages
    content = "\n\n".join(text for text in [*texts, *first] if text.strip())
    return [*([Message("system", content)] if content else []), *rest]


def tools_text(value: object) -> str:
    """The tools of a row as text for its system message; nothing when the list is empty."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False) if value else ""
    text = text_of(value, "tools").strip()
    return "" if text in ("", "[]", "{}", "null") else f"You can call these tools, described as JSON:\n{text}"


def finished(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages up to the last answer: what follows it teaches nothing and no answer follows it.

    Raises:
        UnusableRow: When there is no answer, no turn before it, or text that is not Unicode.
    """
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise UnusableRow("no answer")
    kept = tuple(messages[: answers[-1] + 1])
    if len(kept) == 1:
        raise UnusableRow("no prompt")
    if not all(is_unicode(message.content) for message in kept):
        raise UnusableRow(NOT_UNICODE)
    return kept
