"""Workbooks of model texts: whatever a model writes stays text."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import load_workbook

from tunery.errors import StorageError
from tunery.reporting.workbook import Rows, write_workbook

HEADINGS = ("prompt", "reference", "base", "tuned")


def written(rows: Rows, folder: Path) -> Path:
    return write_workbook({"generations": [HEADINGS, *rows]}, folder / "out" / "g.xlsx")


def test_text_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    path = written([["=1+1", "=HYPERLINK(1)", "+x", "@x"]], tmp_path)
    cells = next(iter(load_workbook(path)["generations"].iter_rows(min_row=2)))
    assert [cell.value for cell in cells] == ["=1+1", "=HYPERLINK(1)", "+x", "@x"]
    assert [cell.data_type for cell in cells] == ["s"] * 4


def test_control_characters_that_the_format_forbids_are_shown_as_replaced(tmp_path: Path) -> None:
    path = written([["a\x00b", "c\x1bd", "line\nbreak\ttab", "ok"]], tmp_path)
    row = next(iter(load_workbook(path)["generations"].iter_rows(min_row=2, values_only=True)))
    assert row == ("a\ufffdb", "c\ufffdd", "line\nbreak\ttab", "ok")


def test_the_sheet_has_a_frozen_heading_wrapped_text_and_columns_by_what_they_hold(tmp_path: Path) -> None:
    sheet = load_workbook(written([["p", "r", 0.5, None]], tmp_path))["generations"]
    assert [cell.value for cell in sheet[1]] == list(HEADINGS)
    assert [cell.value for cell in sheet[2]] == ["p", "r", 0.5, None]
    assert sheet.freeze_panes == "A2"
    assert all(cell.alignment.wrap_text for cell in sheet[2][:2])
    assert sheet.column_dimensions["A"].width > 30 > sheet.column_dimensions["C"].width


def test_a_text_longer_than_a_cell_is_cut(tmp_path: Path) -> None:
    path = written([["x" * 40_000, "r", "b", "t"]], tmp_path)
    assert len(load_workbook(path)["generations"]["A2"].value) == 32_767


def test_names_that_a_sheet_cannot_have_are_changed_and_stay_apart(tmp_path: Path) -> None:
    names = ["a/b:c", "a-b-c", "A-B-C", "x" * 40, "x" * 41, ""]
    path = write_workbook({name: [HEADINGS] for name in names}, tmp_path / "g.xlsx")
    assert load_workbook(path).sheetnames == ["a-b-c", "a-b-c-2", "A-B-C-3", "x" * 31, f"{'x' * 29}-2", "answers"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match=r"g\.xlsx.*cannot be written"):
        written([], tmp_path)
