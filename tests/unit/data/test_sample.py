"""A number of rows, drawn by text and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.config.data import SourceConfig
from tunery.data.sample import draw
from tunery.errors import DataError
from tunery.records.rows import Conversation, Message

ROWS = [
    Conversation((Message("user", f"q {n}"), Message("assistant", f"a {n}")), f"r.jsonl:{n}") for n in range(1, 101)
]
CLASSES = {row.origin: str(place % 3 > 0) for place, row in enumerate(ROWS)}  # 34 and 66


def drawn(rows: int, balanced: str | None = "label", seed: int = 0, own: int | str = "training") -> list[Conversation]:
    sample = {"rows": rows, "balanced": balanced, "seed": own}
    return draw(ROWS, SourceConfig.model_validate({"source": "r.jsonl", "sample": sample}), CLASSES, seed)


def origins(rows: Sequence[Conversation]) -> set[str]:
    return {row.origin for row in rows}


@settings(max_examples=50, deadline=None)
@given(small=st.integers(1, 33), more=st.integers(0, 33), seed=st.integers(0, 2**32 - 1))
def test_a_larger_sample_contains_the_smaller_of_its_seed(small: int, more: int, seed: int) -> None:
    large = min(small + more, 34)
    for balanced in (None, "label"):
        assert origins(drawn(2 * small, balanced, seed)) <= origins(drawn(2 * large, balanced, seed))


def test_each_value_has_equally_many_rows() -> None:
    assert Counter(CLASSES[row.origin] for row in drawn(16)) == {"True": 8, "False": 8}


def test_another_seed_draws_other_rows_unless_the_sample_has_its_own() -> None:
    assert origins(drawn(16, seed=0)) != origins(drawn(16, seed=1))
    assert drawn(16, seed=0, own=7) == drawn(16, seed=1, own=7)


def test_the_order_of_the_file_does_not_decide() -> None:
    source = SourceConfig.model_validate({"source": "r.jsonl", "sample": {"rows": 10}})
    assert origins(draw(ROWS, source, {}, 3)) == origins(draw(ROWS[::-1], source, {}, 3))


def test_without_a_sample_every_row_is_used() -> None:
    assert draw(ROWS, SourceConfig(source="r.jsonl"), {}, 0) == ROWS


@pytest.mark.parametrize(
    ("rows", "balanced", "text"),
    [
        (101, None, "sample.rows is 101, but must be at most 100, the training rows"),
        (15, "label", "sample.rows is 15, but must be a multiple of 2, the number of different values of 'label'"),
        (70, "label", "sample.rows is 70, but must be at most 68: 'label' is 'False' in 34 training rows only"),
    ],
)
def test_more_than_there_is_or_can_be_shared_out_is_refused(rows: int, balanced: str | None, text: str) -> None:
    with pytest.raises(DataError) as raised:
        drawn(rows, balanced)
    assert text in str(raised.value)


@pytest.mark.parametrize("balanced", [None, "label"])
def test_a_sample_of_no_rows_is_refused(balanced: str | None) -> None:
    source = SourceConfig.model_validate({"source": "r.jsonl", "sample": {"rows": 2, "balanced": balanced}})
    with pytest.raises(DataError, match=r"sample\.rows is 2, but must be at most 0, the training rows"):
        draw([], source, {}, 0)
