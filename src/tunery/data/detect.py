"""Recognising a source's format from its columns and the first values in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunery.data.messages import UnusableRow, dialogue
from tunery.data.rows import Row, Rows, is_blank
from tunery.errors import DataError, Fault

_PAIRS = (
    ("question", "answer"),
    ("prompt", "response"),
    ("query", "response"),
    ("instruction", "response"),
    ("input", "output"),
    ("text", "label"),
    ("question", "response"),
    ("prompt", "answer"),
)


def detect(rows: Rows) -> tuple[str, str]:
    """The format of a source, and a sentence that says what it was recognised by.

    Raises:
        DataError: If it cannot be detected; the message lists the columns and what to write.
    """
    usual = [column for column in ("messages", "conversations") if column in rows.columns]
    others = [column for column in rows.columns if column not in usual]
    # Between the two: TRL's prompt and completion may themselves be lists of messages.
    found = _recognise_turns(rows, usual) or _recognise_pair(rows) or _recognise_turns(rows, others)
    if found is None:
        listed = f"the columns are {', '.join(rows.columns)}"
        raise DataError(rows.source, Fault("format cannot be detected", listed, advice=suggest(rows.columns)))
    return found[0], f"{rows.source}: format {found[0]}, detected from {found[1]}."


def _recognise_turns(rows: Rows, columns: Sequence[str]) -> tuple[str, str] | None:
    for column in columns:
        name, turns = kind_of_dialogue(first_value(rows.rows, column))
        if name:
            return name, f"column {column!r} ({turns})"
    return None


def _recognise_pair(rows: Rows) -> tuple[str, str] | None:
    for name, needed in (("alpaca", ("instruction", "output")), ("prompt-completion", ("prompt", "completion"))):
        if set(needed) <= set(rows.columns):
            return name, f"columns {' and '.join(map(repr, needed))}"
    return None


def first_value(rows: Sequence[Row], column: str) -> Any:
    """The first value of a column that is not blank, or None."""
    return next((row.values[column] for row in rows if not is_blank(row.values.get(column))), None)


def kind_of_dialogue(value: Any) -> tuple[str, str]:
    """Which format a list of turns has, and what its turns are; two empty texts when it is none."""
    try:
        turns = dialogue(value, "")
    except UnusableRow:
        return "", ""
    first = turns[0] if turns else None
    if isinstance(first, Mapping) and {"from", "value"} <= set(first):
        return "sharegpt", "turns with from and value"
    if isinstance(first, Mapping) and "role" in first and {"content", "tool_calls"} & set(first):
        return "messages", "turns with role and content"
    if isinstance(first, str) and all(isinstance(turn, str) for turn in turns):
        return "lima", "turns that are plain texts"
    return "", ""


def suggest(columns: Sequence[str]) -> str:
    """What to write in project.yaml for these columns, filled in where their names tell which is which."""
    folded = {column.casefold(): column for column in columns}
    pair = next((pair for pair in _PAIRS if set(pair) <= set(folded)), None)
    prompt, completion = (folded[pair[0]], folded[pair[1]]) if pair else ("<column>", "<column>")
    return f"Set columns: {{prompt: {prompt}, completion: {completion}}}."
