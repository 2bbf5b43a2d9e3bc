"""Which rows of a source the project wants, by their values, and the texts that it puts for labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tunery.config.data import RowSource, SourceConfig, cell_text
from tunery.config.fields import nearest
from tunery.data.reading.rows import Row, Rows, is_blank
from tunery.errors import DataError, Fault

_SHOWN = 5


def select(rows: Rows, source: RowSource) -> Rows:
    """The rows that have the values of `source.where`, with the texts of `source.labels` in the completion's column.

    Raises:
        DataError: When a column is not there, no row is wanted, or a label has no text.
    """
    if not rows.rows:
        return rows
    faults = list(_missing_columns(rows, source))
    if faults:
        raise DataError(rows.source, faults)
    wanted = [row for row in rows.rows if _is_wanted(row, source)]
    if not wanted:
        raise DataError(rows.source, _nothing_wanted(rows, source))
    if source.labels and source.columns is not None:
        wanted = _labelled(rows.source, wanted, source.columns["completion"], source)
    return replace(rows, rows=wanted, unwanted=len(rows.rows) - len(wanted))


def _missing_columns(rows: Rows, source: RowSource) -> Iterator[Fault]:
    named = {f"where.{column}": column for column in source.where}
    if source.labels and source.columns is not None:
        named["columns.completion"] = source.columns["completion"]
    if isinstance(source, SourceConfig) and source.sample is not None and source.sample.balanced is not None:
        named["sample.balanced"] = source.sample.balanced
    rule = f"one of the columns: {', '.join(rows.columns)}"
    for key, column in named.items():
        if column not in rows.columns:
            yield Fault(key, rule, column, nearest(column, rows.columns))


def _is_wanted(row: Row, source: RowSource) -> bool:
    values = ((row.values.get(column), texts) for column, texts in source.where.items())
    return all(cell_text(value) in map(cell_text, texts) for value, texts in values)


def _nothing_wanted(rows: Rows, source: RowSource) -> Fault:
    found = (f"{column!r} is {_common(rows, column)}" for column in source.where)
    return Fault("where", f"one that some row fits: {'; '.join(found)}", source.where)


def _common(rows: Rows, column: str) -> str:
    counts = Counter(cell_text(row.values.get(column)) for row in rows.rows)
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{text!r} in {count} rows" for text, count in counts.most_common(_SHOWN)) + more


def _labelled(name: str, rows: list[Row], column: str, source: RowSource) -> list[Row]:
    cells = [row.values.get(column) for row in rows]
    unknown = Counter(cell_text(cell) for cell in cells if not is_blank(cell) and cell_text(cell) not in source.labels)
    if unknown:
        counted = ", ".join(f"{text!r} in {count} rows" for text, count in unknown.most_common(_SHOWN))
        more = f" and {len(unknown) - _SHOWN} more values" if len(unknown) > _SHOWN else ""
        rule = f"a text for every value of {column!r}; there is none for {counted}{more}"
        advice = f"Add them, or leave such rows out: where: {{{column}: [{', '.join(source.labels)}]}}."
        raise DataError(name, Fault("labels", rule, advice=advice))
    texts = [source.labels.get(cell_text(cell)) for cell in cells]
    return [Row(row.origin, {**row.values, column: text}) for row, text in zip(rows, texts, strict=True)]
