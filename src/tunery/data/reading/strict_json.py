"""JSON in which no value is lost: `json` keeps the last of a key's values without a word, as RFC 8259 allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: If it is no JSON, or an object has several values under one key.
    """
    return json.loads(text, object_pairs_hook=_single)


def _single(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        for key, value in pairs:
            if value != values[key]:
                raise ValueError(f"{key!r} has several values")
    return values
