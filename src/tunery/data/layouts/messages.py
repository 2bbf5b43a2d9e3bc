"""From the many ways of writing a chat down to messages: roles, contents, reasoning, tool calls, what is learned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.data.layouts.fields import LEARNED, PARTLY_LEARNED, Fields, UnusableRow, flag, reasoning_of
from tunery.data.layouts.tools import calls_in, calls_of
from tunery.data.reading import strict_json
from tunery.data.reading.rows import NOT_UNICODE, is_blank, is_unicode
from tunery.records.rows import Message

_CALLING = ("function_call", "tool_call", "tool_calls")
_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "input"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bard", "bing", "ai", "bot", "output"), "assistant"),
    # The model wrote a call, so it is learned like any other answer.
    **dict.fromkeys(_CALLING, "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
}
_OPENAI_INPUT = {"messages", "parallel_tool_calls"}  # of its data for preferences
_SAID = {"content", "value", "tool_calls", "function_call"}
_JSON_TURNS = re.compile(r"\s*\[\s*\{")


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
            value = strict_json.loads(value)
        except ValueError as error:
            raise UnusableRow(f"{what} is not JSON ({error})") from None
    if not isinstance(value, list | tuple):
        raise UnusableRow("no conversation" if is_blank(value) else f"{what} is not a list of turns")
    return value


def is_turn(value: object) -> bool:
    """Whether a value is one turn: an object with a role and what was said."""
    return isinstance(value, Mapping) and bool({"role", "from"} & set(value)) and bool(_SAID & set(value))


def turns_in(value: object, role: str) -> Sequence[Any]:
    """The turns that a cell holds as a list, as one object, or as JSON text; else its text as one turn of `role`."""
    if is_turn(value):
        return [value]
    if isinstance(value, Mapping) and "messages" in value and set(value) <= _OPENAI_INPUT:
        value = value["messages"]
    if isinstance(value, list | tuple) or (isinstance(value, str) and _JSON_TURNS.match(value)):
        try:
            turns = dialogue(value, role)
        except UnusableRow:
            turns = []
        if turns and all(map(is_turn, turns)):
            return turns
    text = text_of(value, "prompt" if role == "user" else "completion")
    return [{"role": role, "content": text}] if text.strip() else []


def alternating(texts: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Plain texts as turns of a user and an assistant in turn."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def read_turns(turns: Sequence[Any], unread: Counter[str]) -> Iterator[Message]:
    """Messages of a list of turns such as {from, value} or {role, content}; a blank system turn is left out.

    Args:
        unread: Takes the keys of turns that mean nothing to tunery, with the number of turns.

    Raises:
        UnusableRow: At an unknown role or a turn without content.
    """
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise UnusableRow(f"turn {number} is not an object with role and content, or from and value")
        fields = Fields(turn)
        message = _message(fields, number, is_last=number == len(turns))
        unread.update(fields.unread())
        if message is not None:
            yield message


def _message(turn: Fields, number: int, is_last: bool) -> Message | None:
    named = _first(turn, "role", "from")
    speaker = str(named).strip().casefold()
    role = _ROLES.get(speaker)
    if role is None:
        raise UnusableRow(f"turn {number} has the unknown role {named!r}")
    content = _content(_first(turn, "content", "value"), number)
    learned = _is_learned(turn, role, number)
    if role != "assistant":
        if not content.strip() and role != "system":
            raise UnusableRow(f"turn {number} ({role}) is blank")
        return Message(role, content) if content.strip() else None
    calls = calls_of(turn)
    if speaker in _CALLING and not calls and (calls := calls_in(content)):
        content = ""
    if not content.strip() and not calls:
        raise UnusableRow("no answer" if is_last else f"turn {number} (assistant) is blank")
    return Message(role, content if content.strip() else "", learned, reasoning_of(turn, content), calls)


def _first(turn: Fields, *keys: str) -> Any:
    """The value of the first key that has one; a further one counts as not read."""
    return next((turn.get(key) for key in keys if key in turn.values), None)


def _content(value: Any, number: int) -> str:
    if not isinstance(value, list):
        return text_of(value, f"turn {number}")
    texts = []
    for part in value:
        if isinstance(part, Mapping) and part.get("text") is not None and part.get("type", "text") == "text":
            texts.append(str(part["text"]))
        else:
            kind = part.get("type", "an unknown part") if isinstance(part, Mapping) else type(part).__name__
            raise UnusableRow(f"turn {number} holds {kind}, but only text can be used")
    return "\n".join(texts)


def _is_learned(turn: Fields, role: str, number: int) -> bool:
    """Whether an assistant's turn is to be learned: OpenAI's weight, Axolotl's train, ms-swift's loss."""
    if role != "assistant":
        # What others say is not learned anyway; the wish to learn it stays among the keys that were not read.
        for key in turn.names(LEARNED):
            if flag(turn.values[key]) is False:
                turn.get(key)
        return True
    if partly := turn.names(PARTLY_LEARNED):
        raise UnusableRow(f"turn {number} has {partly[0]}, but a turn is learned whole or not at all")
    wishes = {key: turn.get(key) for key in turn.names(LEARNED)}
    for key, value in wishes.items():
        if flag(value) is None:
            raise UnusableRow(f"turn {number} has {key} {value!r}, but only 0 and 1 (false and true) can be used")
    return all(map(flag, wishes.values()))


def with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages with a text put into one system message at the start, before what a system message there says."""
    first = [messages[0].content] if messages and messages[0].role == "system" else []
    rest = messages[1:] if first else messages
    content = "\n\n".join(dict.fromkeys(each for each in [text, *first] if each.strip()))
    return [*([Message("system", content)] if content else []), *rest]


def tools_text(tools: str) -> str:
    """Descriptions of tools, a JSON list, as text for the system message; nothing where there are none."""
    return f"You can call these tools, described as JSON:\n{tools}" if tools else ""


def finished(messages: Sequence[Message], tools: str) -> tuple[Message, ...]:
    """The messages up to the last answer that is learned: what follows it teaches nothing.

    Raises:
        UnusableRow: When there is no such answer, no turn before it, or text that is not Unicode.
    """
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    learned = [place for place in answers if messages[place].learned]
    if not learned:
        raise UnusableRow("no answer that is to be learned" if answers else "no answer")
    kept = tuple(messages[: learned[-1] + 1])
    if len(kept) == 1:
        raise UnusableRow("no prompt")
    texts = [text for each in kept for text in (each.content, each.reasoning, *each.tool_calls)]
    if not all(map(is_unicode, [tools, *texts])):
        raise UnusableRow(NOT_UNICODE)
    return kept
