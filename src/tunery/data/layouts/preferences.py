"""Data of preferences: pairs of a chosen and a rejected answer, and answers marked as wanted or not."""

from __future__ import annotations

from collections.abc import Mapping

from tunery.data.layouts.fields import CHOSEN, LABELS, REJECTED, SYSTEM, spelled
from tunery.data.reading.rows import Rows, is_blank
from tunery.errors import DataError, Fault


def label_column(rows: Rows) -> str | None:
    """The column that marks answers as wanted or not, as data for KTO has it: all of its values are true or false."""
    for column in spelled(rows.columns, LABELS):
        values = [value for row in rows.rows if not is_blank(value := row.values.get(column))]
        if all(isinstance(value, bool) or str(value).strip().casefold() in ("true", "false") for value in values):
            return column
    return None


def has_pairs(rows: Rows) -> bool:
    """Whether the rows hold a chosen and a rejected answer."""
    return bool(spelled(rows.columns, CHOSEN) and spelled(rows.columns, REJECTED))


def refuse_pairs(rows: Rows, turns: Mapping[str, str]) -> DataError:
    """The error that says how to learn the chosen answers.

    Args:
        turns: Column -> format, of the columns that hold turns.
    """
    chosen, rejected = spelled(rows.columns, CHOSEN)[0], spelled(rows.columns, REJECTED)[0]
    usual = [turns[column] for column in ("messages", "conversations") if column in turns]
    by_column = {"instruction": "alpaca", "prompt": "prompt-completion"}
    named = [*usual, *(by_column[name] for name in by_column if spelled(rows.columns, [name]))]
    question = spelled(rows.columns, ("question", "query", "input"))
    if not named and not question and chosen in turns:
        named = [turns[chosen]]  # pairs of whole conversations
    system = "".join(f"system: {column}, " for column in spelled(rows.columns, SYSTEM)[:1])
    columns = f"columns: {{{system}prompt: {(question or ['<column>'])[0]}, completion: {chosen}}}"
    way = f"format: {named[0]}" if named else columns
    rule = f"tunery learns answers, not which of two is better; the columns {chosen} and {rejected} are such pairs"
    return DataError(rows.source, Fault("preference data", rule, advice=f"To learn the chosen answers, set {way}."))
