"""Spreadsheets as people have them: titles, dates, formulas, errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tunery.config.data import SourceConfig
from tunery.data.layouts.convert import Converted, to_conversations
from tunery.data.reading.load import load_rows
from tunery.data.reading.rows import Rows
from tunery.errors import DataError


def read(folder: Path, rows: Sequence[Sequence[Any]]) -> Rows:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "qa.xlsx")
    return load_rows(SourceConfig(source="qa.xlsx"), folder)


def convert(folder: Path, rows: Sequence[Sequence[Any]]) -> Converted:
    return to_conversations(read(folder, rows), SourceConfig(source="qa.xlsx"), 0)


def test_a_title_above_the_heading_is_said_and_no_column(tmp_path: Path) -> None:
    rows = read(tmp_path, [["Our questions, 2026"], [], ["Question", "Answer"], ["q1", "a1"], ["q2", "a2"]])
    assert rows.columns == ["Question", "Answer"]
    assert [row.origin for row in rows.rows] == ["qa.xlsx[Sheet]:4", "qa.xlsx[Sheet]:5"]
    assert rows.notes == ["qa.xlsx[Sheet]: the heading is row 3; above it is a title."]


def test_a_sheet_of_one_column_has_its_heading_in_the_first_row(tmp_path: Path) -> None:
    rows = read(tmp_path, [["a"], ["1"], ["2", "stray"], ["3"]])
    assert rows.columns == ["a"]
    assert rows.notes == []


def test_dates_are_learned_as_dates(tmp_path: Path) -> None:
    converted = convert(tmp_path, [["Question", "Answer"], ["q", date(2020, 1, 1)], ["q2", datetime(2021, 2, 3)]])
    assert [row.messages[1].content for row in converted.conversations] == ["2020-01-01", "2021-02-03"]


def test_a_formula_whose_result_is_not_stored_makes_a_bad_row_where_it_is_needed(tmp_path: Path) -> None:
    converted = convert(tmp_path, [["Question", "Answer", "Length"], ["q", "=A2", 1], ["q2", "a", "=LEN(A3)"]])
    assert [(drop.origin, drop.reason) for drop in converted.bad] == [
        (
            "qa.xlsx[Sheet]:2",
            "cell B2 holds a formula whose result the file does not hold (save it in a spreadsheet program)",
        )
    ]
    assert len(converted.conversations) == 1


def test_an_error_is_no_answer(tmp_path: Path) -> None:
    converted = convert(tmp_path, [["Question", "Answer"], ["q", "#N/A"], ["q2", "a"]])
    assert [drop.reason for drop in converted.bad] == ["cell B2 is the error #N/A"]


def test_a_heading_that_is_a_formula_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the heading: cell B1 holds a formula"):
        read(tmp_path, [["Question", "=A1"], ["q", "a"]])
