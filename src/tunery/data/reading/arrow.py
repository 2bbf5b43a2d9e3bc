"""Values of parquet files and saved datasets as the JSON that they were made of would give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time
from typing import Any

import pyarrow as pa

_Path = tuple[str, ...]
"""Names on the way from a column to a value inside it; places in lists do not count."""


def native_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> list[dict[str, Any]]:
    """Rows without the members that their file's format added or changed.

    A struct has every member that any row of the file has, None where a row had no such key: those are left out. A map
    comes as a list of pairs, and becomes a mapping. Times that are all midnight are dates: readers of JSON and of
    spreadsheets make times of them.

    Args:
        rows: As pyarrow or `datasets` gives them.
        schema: Their types.
    """
    kinds = {field.name: field.type for field in schema}
    return with_dates([{name: _native(value, kinds.get(name)) for name, value in row.items()} for row in rows])


def _native(value: Any, kind: pa.DataType | None) -> Any:
    # What `datasets` decodes (JSON, images) is not what its arrow type says, and stays as it is.
    if kind is None:
        return value
    if pa.types.is_struct(kind) and isinstance(value, Mapping):
        members = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
        return {name: _native(each, members.get(name)) for name, each in value.items() if each is not None}
    if pa.types.is_map(kind) and isinstance(value, list):
        return {name: _native(each, kind.item_type) for name, each in value}
    if isinstance(value, list) and hasattr(kind, "value_type"):
        return [_native(each, kind.value_type) for each in value]
    return value


def with_dates(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with dates for the times of a column, or of a member inside it, that are all midnight."""
    midnight: dict[_Path, bool] = {}
    for row in rows:
        for path, moment in _times(row, ()):
            midnight[path] = midnight.get(path, True) and moment.time() == time() and moment.tzinfo is None
    dates = {path for path, always in midnight.items() if always}
    return [_dated(row, (), dates) for row in rows] if dates else rows


def _times(value: Any, path: _Path) -> Iterator[tuple[_Path, datetime]]:
    if isinstance(value, datetime):
        yield path, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _times(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            yield from _times(each, path)


def _dated(value: Any, path: _Path, dates: set[_Path]) -> Any:
    if isinstance(value, datetime):
        return value.date() if path in dates else value
    if isinstance(value, Mapping):
        return {name: _dated(each, (*path, name), dates) for name, each in value.items()}
    return [_dated(each, path, dates) for each in value] if isinstance(value, list) else value
