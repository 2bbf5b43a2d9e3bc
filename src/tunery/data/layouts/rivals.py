"""Columns that can be the prompt or the answer beside the ones that a format reads."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.data.layouts.fields import spelled
from tunery.data.reading.rows import Row

# Names of nothing else: `user` may be a person, `generation` a number.
_SURELY = ("question", "prompt", "query", "problem", "answer", "response", "completion", "solution")
_LOOKED_AT = 20  # rows


def rival_of(rows: Sequence[Row], own: Sequence[str], others: Sequence[str]) -> str | None:
    """The first of the other columns that says something else than the format's own columns, in every row.

    `prompt` beside `instruction` and `input` is the same written out, as a rule, and `answer` the end of `output`.
    `question` beside an `instruction` that all rows share is what is asked.
    """
    return next((one for one in spelled(others, _SURELY) if _says_else(rows[:_LOOKED_AT], own, one)), None)


def _says_else(rows: Sequence[Row], own: Sequence[str], other: str) -> bool:
    differ = []
    for row in rows:
        texts = list(filter(None, (_squeezed(row.values.get(column)) for column in own)))
        if texts and (rival := _squeezed(row.values.get(other))):
            differ.append(rival not in "".join(texts) and not all(text in rival for text in texts))
    return bool(differ) and all(differ)


def _squeezed(value: object) -> str:
    """A text without case and white space; nothing of any other value."""
    return "".join(value.split()).casefold() if isinstance(value, str) else ""
