"""Roles that a chat template does not know, folded into those that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tunery.data.rendering.template_text import TemplateText
from tunery.records.rows import Conversation, Message


def fold(talk: Conversation, template: TemplateText) -> tuple[Conversation, set[str]]:
    """The conversation in roles that the template takes, and what was folded, by names in `told.TOLD`."""
    # Repeated roles come last: folding a tool turn can put two user turns in a row.
    messages: Sequence[Message] = talk.messages
    folded = set()
    roles = {message.role for message in messages}
    calls = any(message.tool_calls for message in messages)  # a template that shows them knows who answers
    if "tool" in roles and not calls and not template.shows_roles("user", "assistant", "tool", "assistant"):
        folded.add("tool")
        messages = [replace(each, role="user") if each.role == "tool" else each for each in messages]
    if "system" in roles and not template.shows_roles("system", "user", "assistant"):
        folded.add("system")
        messages = _system_into_user(messages)
    repeats = any(one.role == other.role for one, other in pairwise(messages) if one.role != "tool")
    if repeats and not template.shows_roles("user", "user", "assistant", "assistant"):
        folded.add("repeated")
        messages = _merge_repeats(messages)
    return replace(talk, messages=tuple(messages)), folded


def with_repeats_joined(talk: Conversation) -> Conversation:
    """The conversation with turns of one role in a row as one turn; results of tools stay apart."""
    return replace(talk, messages=tuple(_merge_repeats(talk.messages)))


def _system_into_user(messages: Sequence[Message]) -> Sequence[Message]:
    texts = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [Message("user", "\n\n".join(texts)), *rest]
    joined = Message("user", "\n\n".join([*texts, rest[first].content]))
    return [*rest[:first], joined, *rest[first + 1 :]]


def _merge_repeats(messages: Sequence[Message]) -> Sequence[Message]:
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role != "tool":
            merged[-1] = _joined(merged[-1], message)
        else:
            merged.append(message)
    return merged


def _joined(one: Message, other: Message) -> Message:
    """Two turns as one, which is not learned if one of them is not."""
    return Message(
        role=one.role,
        content="\n\n".join(filter(None, (one.content, other.content))),
        learned=one.learned and other.learned,
        reasoning="\n\n".join(filter(None, (one.reasoning, other.reasoning))),
        tool_calls=(*one.tool_calls, *other.tool_calls),
    )
