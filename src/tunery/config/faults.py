"""From pydantic's errors to sentences in the project's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from tunery.config.fields import nearest
from tunery.config.project import CrossFieldFaults, known_keys
from tunery.config.search import Dimension
from tunery.errors import Fault

_RULES: Mapping[str, str] = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("date_type", "date_parsing", "date_from_datetime_parsing"), "a day, such as 2024-07-26"),
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    **dict.fromkeys(("model_type", "model_attributes_type"), "a mapping of keys"),
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "one of {expected}",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
    **dict.fromkeys(("too_short", "string_too_short"), "given, not empty"),
}
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


def faults_of(error: ValidationError) -> list[Fault]:
    """Every fault that pydantic found, once each, in the order of the file."""
    faults: dict[str, Fault] = {}
    words: dict[str, list[str]] = {}  # that a key takes beside another kind of value: `Count | Literal["epoch"]`
    for detail in error.errors():
        for fault in _faults(dict(detail)):
            if detail["type"] == "literal_error":
                words.setdefault(fault.key, []).append(str(detail["ctx"]["expected"]))
            if fault.key not in faults or faults[fault.key].rule in map(_one_of, words.get(fault.key, ())):
                faults[fault.key] = fault
    return [_with_words(fault, words.get(key, ())) for key, fault in faults.items()]


def _one_of(expected: str) -> str:
    return _RULES["literal_error"].format(expected=expected)


def _with_words(fault: Fault, words: Sequence[str]) -> Fault:
    """A fault of a key that also takes words: "a whole number, or 'epoch'"."""
    others = [expected for expected in words if fault.rule != _one_of(expected)]
    return replace(fault, rule=", or ".join([fault.rule, *others])) if others else fault


def _faults(detail: dict[str, Any]) -> list[Fault]:
    context = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, CrossFieldFaults):
        return cause.faults
    location, kind = detail["loc"], detail["type"]
    # Without the parts that name a branch of a union rather than a key: `literal[...]`, `list[str]`, `bool`.
    names = [str(part) for part in location if part not in ("bool", "str", "int", "float")]
    key = ".".join(name for name in names if not re.search(r"[\[\(]", name))
    if kind == "extra_forbidden":
        advice = nearest(key, known_keys())
        if "[dimension]" in location:  # its key itself contains dots: only its own parts count
            parts = Dimension.model_fields
            advice = nearest(str(location[-1]), parts) or f"It may have: {', '.join(parts)}."
        return [Fault(f"unknown key {key!r}", advice=advice)]
    example = _EXAMPLES.get(key, "")
    if kind == "missing":
        return [Fault(key, "is missing, but is needed", advice=example)]
    if kind == "value_error":
        return [Fault(key or "project", str(cause))]
    rule = _RULES[kind].format(**context) if kind in _RULES else re.sub(r"^Input should be ", "", detail["msg"])
    return [Fault(key, rule, detail["input"], example)]
