"""Amounts of memory as people write them: "24 GiB"."""

from __future__ import annotations

import math
import re

_STEPS = "KMGTP"
# As SLURM and most tools read it, a bare letter is binary: 24G is 24 GiB.
_UNITS = (
    {"B": 1}
    | {f"{letter}{end}": 1024 ** (place + 1) for place, letter in enumerate(_STEPS) for end in ("", "IB")}
    | {f"{letter}B": 1000 ** (place + 1) for place, letter in enumerate(_STEPS)}
)
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")
BYTES_RULE = "an amount of memory above 0, a number and a unit such as 24 GiB, 24 GB or 800 MiB"
_MOST_GIB = 100_000  # a plain number above it was meant as bytes


def parse_bytes(text: str) -> int:
    """Bytes that a text such as "24 GiB" means.

    Args:
        text: A number and a unit: B; KiB, MiB, GiB (1024); KB, MB, GB (1000); K, M, G as KiB, MiB, GiB. Case is free.

    Raises:
        ValueError: If it is no amount above 0.
    """
    found = _AMOUNT.fullmatch(text)
    scale = _UNITS.get(found[2].upper()) if found else None
    amount = float(found[1]) * scale if found and scale else 0.0
    if not math.isfinite(amount) or amount < 1:
        raise ValueError(f"{text!r} is not {BYTES_RULE}")
    return int(amount)


def unit_advice(text: str) -> str:
    """ "Did you mean '24 GiB'?" for a number without a unit, nothing for anything else."""
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2]:
        return ""
    return f"Did you mean '{found[1]} {'GiB' if float(found[1]) < _MOST_GIB else 'B'}'?"


def format_bytes(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least 1: "1.50 GiB"."""
    size, unit = float(count), "B"
    for letter in _STEPS:
        if abs(size) < 1024:
            break
        size, unit = size / 1024, f"{letter}iB"
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
