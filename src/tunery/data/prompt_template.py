"""Prompt templates: text with column names in braces, and nothing else that could be evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tunery.errors import DataError, Fault

_PIECE = re.compile(r"\{\{|\}\}|\{(?P<column>[^{}]*)\}|(?P<lone>[{}])")


@dataclass(frozen=True)
class PromptTemplate:
    """A parsed prompt template."""

    pieces: tuple[str, ...]  # literal texts and column names in turn: literals at even places, columns at odd ones

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the template names, once each."""
        return tuple(dict.fromkeys(self.pieces[1::2]))

    def fill(self, values: Mapping[str, str]) -> str:
        """The prompt for one row."""
        return "".join(values[piece] if place % 2 else piece for place, piece in enumerate(self.pieces))


def check_template(text: str) -> None:
    """Refuse a template that cannot be read, or that asks every row the same.

    Raises:
        DataError: With what to do.
    """
    if not parse_template(text).columns:
        advice = "Every row would have the same prompt. Name one in braces: 'Question: {question}'."
        raise DataError("prompt_template", Fault(f"no column in {text!r}", advice=advice))


def parse_template(text: str) -> PromptTemplate:
    """Read a template such as "Premise: {premise}".

    The text in braces is a column's whole name. It is looked up and never evaluated, so `{row.__class__}` or
    `{x:>9}` can only be a column that is called so. `{{` and `}}` are braces.

    Raises:
        DataError: At a lone brace.
    """
    pieces, literal, end = [], "", 0
    for match in _PIECE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match["lone"]:
            fault = Fault(f"a lone {match['lone']!r} in {text!r}", advice="Double a brace that is text: {{ }}.")
            raise DataError("prompt_template", fault)
        if match["column"] is None:
            literal += match[0][0]
        else:
            pieces += [literal, match["column"]]
            literal = ""
    return PromptTemplate((*pieces, literal + text[end:]))
