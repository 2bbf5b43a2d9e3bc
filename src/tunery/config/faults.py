"""From pydantic's errors to sentences in the project's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tunery.config.fields import nearest
from tunery.config.project import CrossFieldFaults, known_keys
from tunery.config.search import Dimension
from tunery.errors import Fault

_RULES: Mapping[str, str] = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}


def faults_of(error: ValidationError) -> list[Fault]:
    """Every fault that pydantic found, once each, in the order of the file."""
    faults: dict[str, Fault] = {}
    for detail in error.errors():
        for fault in _faults(dict(detail)):
            faults.setdefault(fault.key, fault)
    return list(faults.values())


def _faults(detail: dict[str, Any]) -> list[Fault]:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, CrossFieldFaults):
        return cause.faults
    key = _dotted(detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return [Fault(f"unknown key {key!r}", advice=_nearest(detail["loc"], key))]
    if kind == "missing":
        return [Fault(key, "is missing, but is needed", advice=_example(key))]
    if kind == "value_error":
        return [Fault(key or "project", str(cause), advice="")]
    return [Fault(key, _rule(detail), detail["input"], _example(key))]


def _nearest(location: tuple[int | str, ...], key: str) -> str:
    """The nearest known key; inside a search dimension, whose key itself contains dots, only its own parts count."""
    if "[dimension]" in location:
        parts = Dimension.model_fields
        return nearest(str(location[-1]), parts) or f"It may have: {', '.join(parts)}."
    return nearest(key, known_keys())


def _rule(detail: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    limits = {
        "greater_than": ("above", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("below", "lt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in limits:
        word, bound = limits[kind]
        return f"{word} {context[bound]:g}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return "letters, digits, '.', '_' and '-', starting with a letter or digit"
    if kind in ("too_short", "string_too_short"):
        return "given, not empty"
    return _RULES.get(kind, re.sub(r"^Input should be ", "", detail["msg"]))


def _dotted(location: tuple[int | str, ...]) -> str:
    """Drop the parts that name a branch of a union rather than a key: `literal[...]`, `list[str]`, `bool`."""
    names = [str(part) for part in location]
    return ".".join(
        name for name in names if not re.search(r"[\[\(]", name) and name not in ("bool", "str", "int", "float")
    )


_EXAMPLES: Mapping[str, str] = {
    "name": "Try name: my-experiment.",
    "base": "Try base: {model: builtin:tiny}.",
    "base.model": "Try builtin:tiny, or a hub id such as mistralai/Mistral-7B-v0.1.",
    "data": "Try data: {train: [{source: rows.jsonl}]}.",
    "data.train": "Try train: [{source: rows.jsonl}].",
    "training.learning_rate": "Try 2.0e-4.",
    "adapter.rank": "Try 16.",
    "adapter.target_modules": "Try all-linear, or a list such as [q_proj, v_proj].",
}


def _example(key: str) -> str:
    return _EXAMPLES.get(key, "")
