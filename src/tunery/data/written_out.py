"""Reasoning, tool calls and tools as ordinary text."""

from __future__ import annotations

from dataclasses import replace

from tunery.data.messages import tools_text, with_system
from tunery.records import Conversation, Message


def written_out(conversation: Conversation) -> Conversation:
    """The conversation with all that it holds moved into the contents.

    Reasoning becomes `<think>`...`</think>` before the answer, calls are JSON below it, one a line, and tools begin the
    system message.
    """
    messages = with_system([_written(message) for message in conversation.messages], tools_text(conversation.tools))
    return replace(conversation, messages=tuple(messages), tools="")


def _written(message: Message) -> Message:
    content = "\n".join([*filter(str.strip, [message.content]), *message.tool_calls])
    if message.reasoning.strip():
        content = f"<think>\n{message.reasoning}\n</think>\n\n{content}"
    return replace(message, content=content, reasoning="", tool_calls=())
