from __future__ import annotations

import pytest

from tunery.config.units import format_bytes, parse_bytes, unit_advice


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24 GiB", 24 * 2**30),
        ("24GB", 24_000_000_000),
        ("24g", 24 * 2**30),
        ("1.5 MiB", 1_572_864),
        (" 800 kB ", 800_000),
        ("4096 B", 4096),
        (".5 TiB", 2**39),
    ],
)
def test_an_amount_of_memory_is_read_as_people_write_it(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "24", "lots", "24 Gb/s", "-1 GiB", "0", "0.2 B", "1e9", "1 2 GiB", "24 Gbit", "9" * 400 + " GiB"]
)
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"24 GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("24", "Did you mean '24 GiB'?"), (" 1.5 ", "'1.5 GiB'"), ("25769803776", "'25769803776 B'"), ("24 GiB", "")],
)
def test_a_number_alone_is_answered_with_the_unit_that_it_lacks(text: str, expected: str) -> None:
    assert expected in unit_advice(text)
    assert bool(expected) == bool(unit_advice(text))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (24 * 2**30, "24.00 GiB"), (-(2**20), "-1.00 MiB")],
)
def test_bytes_are_written_in_the_largest_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text
