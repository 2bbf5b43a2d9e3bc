"""Solved examples that stand before a prompt: drawn from the training rows, written as text or as turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tunery.data.rendering.encode import plain_parts
from tunery.data.rendering.written_out import written_out
from tunery.data.sample import Wanted, first_in_line
from tunery.records.rows import Conversation, Message


@dataclass(frozen=True)
class Context:
    """Examples, in the order in which they are shown."""

    examples: tuple[Conversation, ...]
    separator: str  # after each example, in text
    join: str | None = None  # between an example's prompt and its answer, in text: data.separator

    @cached_property
    def text(self) -> str:
        """The examples without a chat template: each as `data.template: plain` writes a row, then the separator."""
        return "".join("".join([*plain_parts(one, self.join), self.separator]) for one in self.examples)

    def before(self, messages: Sequence[Message], *, chat: bool) -> tuple[Message, ...]:
        """A prompt's messages with the examples before its question: as turns, or as text in the first message."""
        if chat:
            place = 1 if messages[0].role == "system" else 0
            turns = (Message(turn["role"], turn["content"], learned=False) for turn in self.turns)
            return (*messages[:place], *turns, *messages[place:])
        return put_before(messages, self.text)

    @cached_property
    def turns(self) -> tuple[dict[str, str], ...]:
        """The examples for a chat template: each is the user's turn and the assistant's, as lm-eval has it."""
        return tuple(turn for one in self.examples for turn in _turns(one))


def put_before(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with a text in front of what the first one says."""
    first, *rest = messages
    return (replace(first, content=f"{text}{first.content}"), *rest)


def draw_context(
    rows: Sequence[Conversation], examples: int, seed: int, *, key: str, balanced: bool = False
) -> tuple[Conversation, ...]:
    """So many rows, shuffled by seed: 16 of a seed contain its 8.

    Args:
        rows: Training rows.
        key: How a fault names the number: "training.icl.examples".
        balanced: Take equally many rows of each answer.

    Raises:
        DataError: If there are fewer rows, or their number cannot be divided by the different answers.
    """
    wanted = Wanted("data.train", key, examples, "the answer" if balanced else None)
    answers = {row.origin: written_out(row).messages[-1].content for row in rows}
    return tuple(first_in_line(rows, wanted, answers, seed))


def _turns(example: Conversation) -> list[dict[str, str]]:
    """Its turns; a system text goes before the first question, as few templates take a system turn in the middle."""
    turns = [{"role": message.role, "content": message.content} for message in written_out(example).messages]
    if turns[0]["role"] == "system" and len(turns) > 2:
        system, first, *rest = turns
        return [{"role": first["role"], "content": f"{system['content']}\n{first['content']}"}, *rest]
    return turns
