"""What parquet and saved datasets add to values is taken away again."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from tunery.data.reading.arrow import native_rows


def native(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> list[dict[str, Any]]:
    table = pa.Table.from_pylist(rows, schema=schema)
    return native_rows(table.to_pylist(), table.schema)


def test_members_that_another_row_has_are_no_part_of_this_one() -> None:
    rows: list[dict[str, Any]] = [{"calls": [{"arguments": {"city": "Rome"}}]}, {"calls": [{"arguments": {"days": 3}}]}]
    assert native(rows) == rows


def test_a_null_inside_json_text_stays() -> None:
    rows = [{"arguments": '{"city": null}', "list": [1, None]}]
    assert native(rows) == rows


def test_a_map_is_a_mapping() -> None:
    schema = pa.schema([("arguments", pa.map_(pa.string(), pa.int64()))])
    assert native([{"arguments": {"x": 1, "y": None}}], schema) == [{"arguments": {"x": 1, "y": None}}]


def test_times_that_are_all_midnight_are_dates() -> None:
    rows: list[dict[str, Any]] = [
        {"a": datetime(2020, 1, 1), "turns": [{"said": datetime(2021, 2, 3)}]},
        {"a": None, "turns": []},
    ]
    assert native(rows) == [{"a": date(2020, 1, 1), "turns": [{"said": date(2021, 2, 3)}]}, {"a": None, "turns": []}]


def test_one_time_of_day_keeps_the_column_as_it_is() -> None:
    rows = [{"a": datetime(2020, 1, 1)}, {"a": datetime(2020, 1, 1, 10)}]
    assert native(rows) == rows


def test_midnight_in_a_time_zone_is_a_time() -> None:
    rows = [{"a": datetime(2020, 1, 1, tzinfo=UTC)}]
    assert isinstance(native(rows)[0]["a"], datetime)
