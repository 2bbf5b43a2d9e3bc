"""Files of every type, and what each does with rows that are broken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.config.data import SourceConfig
from tunery.data.reading.load import load_rows
from tunery.data.reading.readers import csv_delimiter, read_csv, read_jsonl
from tunery.data.reading.rows import Rows
from tunery.errors import DataError

Write = Callable[[str, Any], Path]


def rows_of(file: Path, **settings: Any) -> Rows:
    return load_rows(SourceConfig(source=file.name, **settings), file.parent)


def values_of(rows: Rows) -> list[dict[str, Any]]:
    return [dict(row.values) for row in rows.rows]


def sheet(file: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        page = book.create_sheet(name)
        for number, row in enumerate(rows, start=1):
            for column, value in enumerate(row, start=1):
                page.cell(number, column, value)
    book.save(file)
    return file


# ---- jsonl


def test_a_broken_json_line_is_named_by_its_line_and_the_others_are_kept(write: Write) -> None:
    rows = rows_of(write("r.jsonl", '{"a": "1"}\n{"a": \n[1]\n{"a": "4"}\n'))
    assert [row.origin for row in rows.rows] == ["r.jsonl:1", "r.jsonl:4"]
    assert [drop.origin for drop in rows.unreadable] == ["r.jsonl:2", "r.jsonl:3"]
    assert rows.unreadable[1].reason == "list instead of an object"


def test_an_object_with_several_values_under_one_key_is_a_bad_row(write: Write) -> None:
    lines = '{"a": "1", "a": "2"}\n{"a": {"b": 1, "b": null}}\n{"a": "3", "a": "3"}\n'
    rows = rows_of(write("r.jsonl", lines))
    assert [dict(row.values) for row in rows.rows] == [{"a": "3"}]
    assert [drop.reason for drop in rows.unreadable] == [
        "JSON that cannot be read ('a' has several values)",
        "JSON that cannot be read ('b' has several values)",
    ]


def test_a_line_separator_inside_a_json_text_does_not_end_the_line(write: Write) -> None:
    assert values_of(rows_of(write("r.jsonl", '{"a": "x\u2028y"}\n'))) == [{"a": "x\u2028y"}]


def test_a_byte_order_mark_is_not_part_of_the_first_row(write: Write) -> None:
    assert values_of(rows_of(write("r.jsonl", b'\xef\xbb\xbf{"a": "1"}\n'))) == [{"a": "1"}]


def test_blank_lines_in_the_middle_are_blank_rows_and_those_at_the_end_are_nothing(write: Write) -> None:
    rows = rows_of(write("r.jsonl", '{"a": "1"}\n\n{"a": "3"}\n\n\n'))
    assert [drop.origin for drop in rows.blank] == ["r.jsonl:2"]
    assert rows.rows_read == 3


@pytest.mark.parametrize("content", ["prompt,completion\na,b\n".encode("utf-16-le"), b"\x1f\x8b\x08\x00"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_file_that_begins_with_zero_bytes_is_no_text(write: Write, name: str, content: bytes) -> None:
    read = read_csv if name.endswith("csv") else read_jsonl
    with pytest.raises(DataError, match="not a text: its first line holds a zero byte"):
        list(read(write(name, content)))


def test_a_list_in_a_file_of_json_lines_is_read(write: Write) -> None:
    assert list(read_jsonl(write("rows.jsonl", '[{"a": "x"},\n {"a": "y"}, 3]\n'))) == [
        (1, {"a": "x"}), (2, {"a": "y"}), (3, "int instead of an object"),
    ]  # fmt: skip


def test_a_utf_16_file_is_refused_with_what_to_do(write: Write) -> None:
    with pytest.raises(DataError, match=r"UTF-16.*Save it as UTF-8"):
        rows_of(write("r.jsonl", '{"a": 1}'.encode("utf-16")))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), min_size=1), min_size=1))
def test_json_lines_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    import json

    file = tmp_path_factory.mktemp("jsonl") / "r.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    assert [values for _, values in read_jsonl(file)] == rows


# ---- json


def test_json_may_be_an_object_that_holds_one_list(write: Write) -> None:
    assert values_of(rows_of(write("r.json", {"version": 1, "data": [{"a": "1"}]}))) == [{"a": "1"}]


def test_of_several_lists_in_a_json_object_the_split_names_one(write: Write) -> None:
    file = write("r.json", {"train": [{"a": "1"}], "test": [{"a": "2"}]})
    assert values_of(rows_of(file, split="test")) == [{"a": "2"}]


def test_several_lists_of_which_none_is_the_split_are_listed(write: Write) -> None:
    with pytest.raises(DataError, match="left, right"):
        rows_of(write("r.json", {"left": [{"a": "1"}], "right": []}))


def test_json_lines_in_a_json_file_are_read_as_such(write: Write) -> None:
    assert values_of(rows_of(write("r.json", '{"a": "1"}\n{"a": "2"}\n'))) == [{"a": "1"}, {"a": "2"}]


def test_broken_json_is_refused_with_the_place(write: Write) -> None:
    with pytest.raises(DataError, match=r"JSON that cannot be read: .*line 2 column"):
        rows_of(write("r.json", '[{"a": "1"},\n{"a": ]'))


def test_entries_that_are_no_objects_are_bad_rows_counted_from_1(write: Write) -> None:
    rows = rows_of(write("r.json", [{"a": "1"}, "text", None]))
    assert [drop.origin for drop in rows.unreadable] == ["r.json:2", "r.json:3"]


# ---- csv


def test_csv_cells_stay_text(write: Write) -> None:
    rows = rows_of(write("r.csv", "a,b,c,d\nNA,1.0,007,TRUE\n"))
    assert values_of(rows) == [{"a": "NA", "b": "1.0", "c": "007", "d": "TRUE"}]


def test_a_csv_row_is_named_by_the_line_where_it_begins(write: Write) -> None:
    rows = rows_of(write("r.csv", 'a,b\n"one\ntwo",x\n3,y\n'))
    assert [row.origin for row in rows.rows] == ["r.csv:2", "r.csv:4"]
    assert rows.rows[0].values["a"] == "one\ntwo"


def test_a_csv_row_with_too_many_or_too_few_cells_is_bad(write: Write) -> None:
    rows = rows_of(write("r.csv", "a,b\n1,2,3\n1\n1,2\n"))
    assert [drop.reason for drop in rows.unreadable] == [
        "3 cells, but the heading has 2",
        "1 cells, but the heading has 2",
    ]


def test_a_quote_that_never_closes_stops_instead_of_swallowing_the_rest(write: Write) -> None:
    with pytest.raises(DataError, match="line 2: a quotation mark is opened and never closed"):
        rows_of(write("r.csv", 'a,b\n"1,2\n3,4\n5,6\n'))


def test_text_after_a_closing_quote_is_a_bad_row(write: Write) -> None:
    rows = rows_of(write("r.csv", 'a,b\n"1"x,2\n3,4\n'))
    assert [drop.origin for drop in rows.unreadable] == ["r.csv:2"]
    assert values_of(rows) == [{"a": "3", "b": "4"}]


def test_a_csv_row_of_empty_cells_is_blank(write: Write) -> None:
    assert [drop.origin for drop in rows_of(write("r.csv", "a,b\n,  \n1,2\n")).blank] == ["r.csv:2"]


@pytest.mark.parametrize(
    ("heading", "mark"), [("a,b", ","), ("a;b", ";"), ("a\tb", "\t"), ("text", ","), ('"a;b",c', ",")]
)
def test_the_delimiter_is_what_cuts_the_heading(heading: str, mark: str) -> None:
    assert csv_delimiter(heading + "\n1,2;3\t4") == mark


def test_a_heading_that_is_not_utf_8_makes_its_rows_unreadable_and_not_the_message(write: Write) -> None:
    rows = rows_of(write("r.csv", "Gr\u00f6\u00dfe,b\n1,2\n".encode("cp1252")))
    assert [drop.reason for drop in rows.unreadable] == ["a column's name is not UTF-8 text (save the file as UTF-8)"]
    assert rows.columns == []


def test_a_heading_that_repeats_a_column_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="'a' twice"):
        rows_of(write("r.csv", "a,b,a\n1,2,3\n"))


def test_a_cell_may_be_longer_than_the_csv_modules_default_limit(write: Write) -> None:
    text = "x" * 200_000
    assert values_of(rows_of(write("r.csv", f"a,b\n{text},1\n")))[0]["a"] == text


@given(st.lists(st.tuples(st.text(), st.text()).filter(lambda row: any(cell.strip() for cell in row)), min_size=1))
def test_csv_written_by_pandas_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    import csv

    import pandas as pd

    rows = [(a.replace("\r", ""), b.replace("\r", "")) for a, b in rows]
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    file = tmp_path_factory.mktemp("csv") / "r.csv"
    pd.DataFrame([("first", "row"), *rows, ("last", "row")], columns=["a", "b"]).to_csv(
        file, index=False, quoting=csv.QUOTE_ALL
    )
    read = [(values["a"], values["b"]) for _, values in read_csv(file) if isinstance(values, dict)]
    assert read == [("first", "row"), *rows, ("last", "row")]


# ---- spreadsheets


def test_a_sheets_rows_keep_the_numbers_that_the_spreadsheet_shows(tmp_path: Path) -> None:
    file = sheet(
        tmp_path / "qa.xlsx", QA=[[], ["Question", "Answer"], ["q1", "a1"], [], ["q2", None], [None, None], ["q3", 3]]
    )
    rows = rows_of(file, sheet="QA")
    assert [row.origin for row in rows.rows] == ["qa.xlsx[QA]:3", "qa.xlsx[QA]:5", "qa.xlsx[QA]:7"]
    assert [drop.origin for drop in rows.blank] == ["qa.xlsx[QA]:4", "qa.xlsx[QA]:6"]


def test_several_sheets_and_none_named_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="QA, Notes"):
        rows_of(sheet(tmp_path / "qa.xlsx", QA=[["a"], ["1"]], Notes=[["b"], ["2"]]))


def test_a_sheet_that_is_not_there_is_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sheet is 'qa', but must be one of the file's sheets: QA\."):
        rows_of(sheet(tmp_path / "qa.xlsx", QA=[["a"], ["1"]]), sheet="qa")


def test_the_only_sheet_needs_no_name_and_is_shown(tmp_path: Path) -> None:
    assert rows_of(sheet(tmp_path / "qa.xlsx", QA=[["a"], ["1"]])).rows[0].origin == "qa.xlsx[QA]:2"


def test_a_cell_right_of_the_heading_is_a_bad_row(tmp_path: Path) -> None:
    rows = rows_of(sheet(tmp_path / "qa.xlsx", QA=[["a"], ["1", "stray"], ["2"]]))
    assert [drop.origin for drop in rows.unreadable] == ["qa.xlsx[QA]:2"]


def test_what_is_no_workbook_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="not a spreadsheet"):
        rows_of(write("qa.xlsx", "plain text"))


# ---- parquet


def test_parquet_rows_keep_lists_and_dates(tmp_path: Path) -> None:
    values = [{"turns": ["q", "a"], "day": date(2024, 5, 1)}, {"turns": None, "day": None}]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "r.parquet")
    rows = rows_of(tmp_path / "r.parquet")
    assert values_of(rows) == [values[0]]
    assert [drop.origin for drop in rows.blank] == ["r.parquet:2"]


def test_what_is_no_parquet_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="not a parquet file"):
        rows_of(write("r.parquet", "plain text"))


# ---- digest


def test_the_digest_is_of_the_content_not_of_the_name(write: Write) -> None:
    one, same, other = (
        rows_of(write(name, [{"a": text}])) for name, text in (("1.json", "x"), ("2.json", "x"), ("3.json", "y"))
    )
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == 32
