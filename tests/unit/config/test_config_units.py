from __future__ import annotations

import pytest

from tunery.config.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24 GiB", 24 * 2**30),
        ("24GB", 24_000_000_000),
        ("24g", 24 * 2**30),
        ("1.5 MiB", 1_572_864),
        (" 800 kB ", 800_000),
        ("4096", 4096),
        (".5 TiB", 2**39),
    ],
)
def test_an_amount_of_memory_is_read_as_people_write_it(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "lots", "24 Gb/s", "-1 GiB", "0", "0.2 B", "1e9", "1 2 GiB", "9" * 400 + " GiB"])
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"24 GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (24 * 2**30, "24.00 GiB"), (-(2**20), "-1.00 MiB")],
)
def test_bytes_are_written_in_the_largest_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text
