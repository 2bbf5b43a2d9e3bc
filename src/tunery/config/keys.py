"""The dotted keys of project.yaml: listing them, finding the nearest, asking for a key's type."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel


def dotted_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of the sections in it; a list's entries are written `key.0`."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        yield key
        for inner, in_list in _sections_in(field.annotation):
            yield from dotted_keys(inner, f"{key}.0." if in_list else f"{key}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "Did you mean …?" for a misspelt name, or nothing when no known name is near."""
    known = list(known)
    whole = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if whole:
        return f"Did you mean {whole[0]!r}?"
    leaf = difflib.get_close_matches(
        name.rpartition(".")[2], [key.rpartition(".")[2] for key in known], n=1, cutoff=0.75
    )
    match = next((key for key in known if leaf and key.rpartition(".")[2] == leaf[0]), None)
    return f"Did you mean {match!r}?" if match else ""


def _sections_in(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    elif get_origin(annotation) is list:
        for argument in get_args(annotation):
            yield from ((inner, True) for inner, _ in _sections_in(argument))
    elif get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _sections_in(argument)
