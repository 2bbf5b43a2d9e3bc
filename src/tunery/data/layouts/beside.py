"""What stands beside a row's turns in columns of its own: system text, tools, history, reasoning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunery.data.layouts.fields import HISTORY, MEDIA, SYSTEM, Fields, UnusableRow, reasoning_of
from tunery.data.layouts.messages import alternating, dialogue, read_turns, text_of, with_system
from tunery.data.layouts.tools import tools_of
from tunery.records.rows import Message


def completed(messages: Sequence[Message], row: Fields, turn_keys: Counter[str]) -> tuple[list[Message], str]:
    """A row's messages with what its other columns say, and the descriptions of its tools.

    Args:
        turn_keys: Takes the keys of earlier turns that mean nothing to tunery.

    Raises:
        UnusableRow: When a column holds images, sounds or films, or is not what its name says.
    """
    if media := row.names(MEDIA):
        raise UnusableRow(f"has {media[0]}, but only text can be used")
    messages = with_system(messages, text_of(row.find(SYSTEM), "system"))
    first = [message for message in messages[:1] if message.role == "system"]
    history = list(read_turns(_history(row), turn_keys))
    return _with_reasoning([*first, *history, *messages[len(first) :]], row), tools_of(row)


def _history(row: Fields) -> Sequence[Any]:
    """Earlier turns: pairs of texts as LLaMA-Factory has them, texts in turn, or turns with roles."""
    value = row.values.get(next(iter(row.names(HISTORY)), ""))
    if value is None or (isinstance(value, str) and not value.lstrip().startswith("[")):
        return []  # a text is no list of turns: the column counts as not read
    turns = dialogue(row.find(HISTORY), "history")
    if all(isinstance(turn, Mapping) for turn in turns):
        return turns
    texts = [text for turn in turns for text in (turn if isinstance(turn, list | tuple) else [turn])]
    if len(texts) % 2 or not all(isinstance(text, str) for text in texts):
        raise UnusableRow("history does not hold pairs of a prompt and an answer")
    return alternating(texts)


def _with_reasoning(messages: list[Message], row: Fields) -> list[Message]:
    """The messages with the row's reasoning before the last answer, unless that has some of its own."""
    last = next((place for place in reversed(range(len(messages))) if messages[place].role == "assistant"), None)
    if last is not None and not messages[last].reasoning:
        messages[last] = replace(messages[last], reasoning=reasoning_of(row, messages[last].content))
    return messages
