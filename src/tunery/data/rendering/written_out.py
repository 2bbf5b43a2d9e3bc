"""Reasoning, tool calls and tools as ordinary text: for plain rows, and for chat templates that do not show them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from tunery.data.layouts.messages import tools_text, with_system
from tunery.records.rows import Conversation, Message

Part = Literal["tool_calls", "tools", "reasoning"]
PARTS: tuple[Part, ...] = ("tool_calls", "tools", "reasoning")


def parts_of(conversation: Conversation) -> list[Part]:
    """What a conversation holds beside roles and contents."""
    messages = conversation.messages
    held = {
        "tool_calls": any(message.tool_calls for message in messages),
        "tools": bool(conversation.tools),
        "reasoning": any(message.reasoning.strip() for message in messages),
    }
    return [part for part in PARTS if held[part]]


def written_out(conversation: Conversation, keep: Collection[Part] = ()) -> Conversation:
    """The conversation with its parts moved into the contents, except for those to keep.

    Reasoning becomes `<think>`...`</think>` before the answer, calls are JSON below it, one a line, and tools begin the
    system message.
    """
    messages: Sequence[Message] = conversation.messages
    if "tool_calls" not in keep:
        messages = [_calls_written(message) for message in messages]
    if "reasoning" not in keep:
        messages = [_reasoning_written(message) for message in messages]
    if conversation.tools and "tools" not in keep:
        messages = with_system(messages, tools_text(conversation.tools))
        conversation = replace(conversation, tools="")
    return replace(conversation, messages=tuple(messages))


def without(conversation: Conversation, part: Part) -> Conversation:
    """The conversation without one of its parts."""
    if part == "tools":
        return replace(conversation, tools="")
    empty: Any = () if part == "tool_calls" else ""
    messages = (replace(message, **{part: empty}) for message in conversation.messages)
    return replace(conversation, messages=tuple(messages))


def words_of(conversation: Conversation, part: Part) -> list[str]:
    """The texts by which a part is recognised in what a template writes: names, arguments, thoughts."""
    if part == "tools":
        return [str(tool["function"].get("name", "")) for tool in tool_list(conversation.tools) or ()]
    if part == "reasoning":
        return [message.reasoning for message in conversation.messages if message.reasoning.strip()]
    return [word for message in conversation.messages for word in words_of_calls(message)]


def words_of_calls(message: Message) -> list[str]:
    """The names and the arguments' texts of a message's calls."""
    return [word for call in message.tool_calls for word in _texts(json.loads(call)) if word.strip()]


def tool_list(tools: str) -> list[dict[str, Any]] | None:
    """A conversation's tools as chat templates take them; None where there are none."""
    return json.loads(tools) if tools else None


def edited(conversation: Conversation, edit: Callable[[str], str]) -> Conversation:
    """The conversation with every text in it edited; in JSON each string, so that it stays JSON."""
    messages = tuple(
        replace(
            message,
            content=edit(message.content),
            reasoning=edit(message.reasoning),
            tool_calls=tuple(_edited_json(call, edit) for call in message.tool_calls),
        )
        for message in conversation.messages
    )
    return replace(conversation, messages=messages, tools=_edited_json(conversation.tools, edit))


def _calls_written(message: Message) -> Message:
    if not message.tool_calls:
        return message
    said = [message.content] if message.content.strip() else []
    return replace(message, content="\n".join([*said, *message.tool_calls]), tool_calls=())


def _reasoning_written(message: Message) -> Message:
    if not message.reasoning.strip():
        return replace(message, reasoning="")
    return replace(message, content=f"<think>\n{message.reasoning}\n</think>\n\n{message.content}", reasoning="")


def _texts(value: object) -> Iterator[str]:
    """The strings in a call, of its keys those of the arguments alone."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)


def _edited_json(text: str, edit: Callable[[str], str]) -> str:
    """Edited after it is read: an escape sequence may hide in JSON what the text says."""
    try:
        value = json.loads(text) if text else ""
    except ValueError:
        return edit(text)
    after = _edited(value, edit)
    return text if after == value else json.dumps(after, ensure_ascii=False)


def _edited(value: Any, edit: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return edit(value)
    if isinstance(value, list):
        return [_edited(entry, edit) for entry in value]
    if isinstance(value, dict):
        return {edit(key): _edited(entry, edit) for key, entry in value.items()}
    return value
