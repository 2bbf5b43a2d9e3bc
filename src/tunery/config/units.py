"""Amounts of memory as people write them: "24 GiB"."""

from __future__ import annotations

import re

from pydantic import ByteSize, TypeAdapter, ValidationError

BYTES_RULE = "an amount of memory above 0, a number and a unit such as 24 GiB, 24 GB or 800 MiB"
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([KMGTP]?(?:i?B)?)\s*", re.IGNORECASE)
_MOST_GIB = 100_000  # a plain number above it was meant as bytes
_BYTES = TypeAdapter(ByteSize)


def parse_bytes(text: str) -> int:
    """Bytes that a text such as "24 GiB" means.

    Units are B; KiB, MiB, GiB (1024); KB, MB, GB (1000); K, M, G as KiB, MiB, GiB. Case is free.

    Raises:
        ValueError: If it is no amount above 0.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or not found[2]:
        raise ValueError(f"{text!r} is not {BYTES_RULE}")
    # As SLURM and most tools read it, a bare letter is binary; pydantic reads 24G as 24 GB.
    unit = f"{found[2]}iB" if len(found[2]) == 1 and found[2].upper() != "B" else found[2]
    try:
        amount = int(_BYTES.validate_python(f"{found[1]}{unit}"))
    except (ValidationError, OverflowError):
        amount = 0
    if amount < 1:
        raise ValueError(f"{text!r} is not {BYTES_RULE}")
    return amount


def unit_advice(text: str) -> str:
    """ "Did you mean '24 GiB'?" for a number without a unit, nothing for anything else."""
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2]:
        return ""
    return f"Did you mean '{found[1]} {'GiB' if float(found[1]) < _MOST_GIB else 'B'}'?"


def format_bytes(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least 1: "1.50 GiB"."""
    size = ByteSize(count)
    unit = size.human_readable(separator=" ").split()[1]
    return f"{size:d} B" if unit == "B" else f"{size.to(unit):.2f} {unit}"
