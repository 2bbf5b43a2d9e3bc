"""Rows by their values, and texts for labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from tunery.config.data import SourceConfig
from tunery.data.reading.rows import Rows, collect
from tunery.data.reading.selection import select
from tunery.errors import DataError

NLI = [{"q": f"q {n}", "label": n % 3} for n in range(9)]
ASK = {"prompt": "q", "completion": "label"}


def rows_of(values: Sequence[Mapping[str, Any]]) -> Rows:
    return collect("nli.csv", "nli.csv", enumerate(values, start=1), "digest")


def source(**settings: Any) -> SourceConfig:
    return SourceConfig.model_validate({"source": "nli.csv", **settings})


def test_rows_with_other_values_are_left_out_and_counted() -> None:
    found = select(rows_of(NLI), source(where={"label": [0, 2]}))
    assert [row.values["label"] for row in found.rows] == [0, 2, 0, 2, 0, 2]
    assert (found.unwanted, found.rows_read, found.rows_wanted) == (3, 9, 6)


@pytest.mark.parametrize(
    ("cell", "asked"), [("2", 2), (2, "2"), (2.0, 2), (" 2 ", 2), (True, True), ("True", True), ("x", "x")]
)
def test_a_file_type_does_not_decide_whether_a_value_is_meant(cell: object, asked: object) -> None:
    assert len(select(rows_of([{"label": cell}]), source(where={"label": [asked]})).rows) == 1


@pytest.mark.parametrize(("cell", "asked"), [("20", 2), (None, 0), ("", 0), (2.5, 2), (1, True)])
def test_other_values_are_not_meant(cell: object, asked: object) -> None:
    with pytest.raises(DataError, match="where"):
        select(rows_of([{"label": cell, "q": "x"}]), source(where={"label": [asked]}))


def test_an_empty_cell_is_no_word_none() -> None:
    rows = rows_of([{"q": "a", "label": None}, {"q": "b", "label": "None"}])
    assert [row.values["q"] for row in select(rows, source(where={"label": ["None"]})).rows] == ["b"]
    assert [row.values["q"] for row in select(rows, source(where={"label": [""]})).rows] == ["a"]


def test_several_columns_must_all_fit() -> None:
    wanted = {"label": [0, 1], "q": ["q 1", "q 2", "q 3"]}
    assert [row.values["q"] for row in select(rows_of(NLI), source(where=wanted)).rows] == ["q 1", "q 3"]


def test_labels_become_texts_in_the_completions_column_alone() -> None:
    found = select(rows_of([{"q": "0", "label": 0}, {"q": "0", "label": None}]), source(columns=ASK, labels={0: "Yes"}))
    assert [row.values for row in found.rows] == [{"q": "0", "label": "Yes"}, {"q": "0", "label": None}]


def test_a_label_without_a_text_is_refused_with_its_count_and_a_way() -> None:
    with pytest.raises(DataError) as raised:
        select(rows_of(NLI), source(columns=ASK, labels={0: "Yes", 2: "No"}))
    text = str(raised.value)
    assert "there is none for '1' in 3 rows" in text
    assert "where: {label: [0, 2]}" in text
    both = source(columns=ASK, labels={0: "Yes", 2: "No"}, where={"label": [0, 2]})
    assert {row.values["label"] for row in select(rows_of(NLI), both).rows} == {"Yes", "No"}


def test_a_value_that_no_row_has_is_refused_with_those_that_rows_have() -> None:
    with pytest.raises(DataError, match=r"'label' is '0' in 3 rows, '1' in 3 rows, '2' in 3 rows"):
        select(rows_of(NLI), source(where={"label": ["entailment"]}))


@pytest.mark.parametrize(
    "settings",
    [
        {"where": {"labl": [0]}},
        {"columns": {"prompt": "q", "completion": "labl"}, "labels": {0: "Yes"}},
        {"sample": {"rows": 2, "balanced": "labl"}},
    ],
)
def test_a_column_that_is_not_there_is_named_with_the_nearest(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="Did you mean 'label'"):
        select(rows_of(NLI), source(**settings))


def test_a_value_with_two_texts_is_refused() -> None:
    with pytest.raises(ValidationError, match="one text for each value: 0 has several"):
        source(columns=ASK, labels={0: "Yes", "0": "No"})
