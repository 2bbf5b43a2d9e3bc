"""Derived settings: arithmetic over keys, and nothing that could do more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.search.space.expressions import ExpressionError, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * adapter.rank", 32),
        ("max(adapter.rank, 64) // training.micro_batch_size", 16),
        ("round(sqrt(adapter.rank) * 0.3, 1)", 1.2),
        ("int(log2(adapter.rank))", 4),
        ("32 if adapter.rank > 8 else 16", 32),
        ("min(1, 2) + 4 / 2 - 3 % 2 ** 1", 2.0),
        ("'bf16' if base.quantization == 'nf4' else 'fp32'", "bf16"),
        ("  adapter.rank ", 16),
        ("2 * data.train.0.sample.rows", 8),
        ("1 if data.train.0.source == 'rows.0.csv' else 2", 1),
    ],
)
def test_an_expression_has_the_value_of_its_arithmetic(text: str, expected: object) -> None:
    settings = {"adapter.rank": 16, "training.micro_batch_size": 4, "base.quantization": "nf4"}
    settings |= {"data.train.0.sample.rows": 4, "data.train.0.source": "rows.0.csv"}
    assert parse(text).value(settings) == expected


def test_an_expression_names_the_keys_that_it_uses_once() -> None:
    assert parse("max(adapter.rank, training.epochs) + adapter.rank").names == ("adapter.rank", "training.epochs")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 *",
        "1; 2",
        "x = 1",
        "import os",
        "__import__('os').system('true')",
        "open('x')",
        "adapter.rank.bit_length()",
        "().__class__",
        "(1).real",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "f'{adapter.rank}'",
        "adapter['rank']",
        "min(*adapter)",
        "int(x, base=2)",
        "(adapter := 3)",
        "\x00",
        "(" * 300,
        "-" * 499,
        "1+" * 300,
    ],
)
def test_a_text_that_is_more_or_less_than_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text).value({"adapter.rank": 1, "adapter": (1, 2), "x": "1"})


@pytest.mark.parametrize(
    "text", ["1 / rank", "log2(rank)", "9 ** 9 ** 9 ** 9", "int(text)", "text + 1", "'a' * 10 ** 9", "unset * 2"]
)
def test_an_expression_without_a_value_says_so(text: str) -> None:
    with pytest.raises(ExpressionError, match="has no value"):
        parse(text).value({"rank": 0, "text": "x", "unset": None})


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        names = parse(text).names
    except ExpressionError:
        return
    assert all(isinstance(name, str) for name in names)


@given(rank=st.integers(1, 1024), factor=st.integers(1, 64))
def test_a_product_is_exact(rank: int, factor: int) -> None:
    assert parse(f"{factor} * adapter.rank").value({"adapter.rank": rank}) == factor * rank
