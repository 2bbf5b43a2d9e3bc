"""Reading a spreadsheet's sheet: its heading, its rows, and cells whose values the file does not hold."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from tunery.data.reading.readers import heading_names
from tunery.data.reading.rows import Numbered, Unreadable, is_blank
from tunery.errors import DataError, Fault, first_line

if TYPE_CHECKING:
    from openpyxl import Workbook

_TITLE_ROWS = 5  # a heading is looked for in so many rows with content
_FORMULA = re.compile(rb"<f[ >/]")


def read_xlsx(file: Path, sheet: str | None) -> tuple[str, Iterator[Numbered], list[str]]:
    """The sheet's name, its rows, and what a person should know of how they were read.

    The heading is the first row with content, below a title if there is one; numbers are the sheet's own.

    Raises:
        DataError: When the file is no spreadsheet, has no such sheet, or has several and none was named.
    """
    import openpyxl

    content = file.read_bytes()
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        name = _chosen_sheet([each.title for each in book.worksheets], sheet, str(file))
        cells = _values(book, name, _unstored(content, name))
    # KeyError, ValueError: a zip without a workbook inside; SyntaxError is the base of both XML parsers' errors.
    except (BadZipFile, KeyError, ValueError, SyntaxError, OSError) as error:
        advice = "Save it again as .xlsx, without a password."
        raise DataError(str(file), Fault("not a spreadsheet", first_line(error), advice=advice)) from None
    where = f"{file}[{name}]"
    filled = [place for place, row in enumerate(cells) if _count(row)]
    top = _heading_row(cells, filled)
    notes = [f"{file.name}[{name}]: the heading is row {top + 1}; above it is a title."] if filled[:1] < [top] else []
    return name, _dated(list(_sheet_rows(cells, top, filled, where))), notes


def _chosen_sheet(names: Sequence[str], sheet: str | None, where: str) -> str:
    listed = ", ".join(names)
    if sheet is None and len(names) != 1:
        rule = f"must be named, for the file has {len(names)}: {listed}"
        raise DataError(where, Fault("sheet", rule, advice=f"Try sheet: {names[0]}."))
    if sheet is not None and sheet not in names:
        raise DataError(where, Fault("sheet", f"one of the file's sheets: {listed}", sheet))
    return sheet or names[0]


def _values(book: Workbook, name: str, unstored: frozenset[str]) -> list[list[Any]]:
    """The sheet's cells; an error such as #N/A, and a formula without its result, are no values."""
    book[name].reset_dimensions()  # some programs write a wrong size, which would cut rows away
    rows = []
    for cells in book[name].iter_rows():
        values: list[Any] = [cell.value for cell in cells]
        for place, cell in enumerate(cells):
            if cell.data_type == "e":
                values[place] = Unreadable(f"cell {cell.coordinate} is the error {cell.value}")
            elif cell.value is None and cell.data_type == "n" and unstored and cell.coordinate in unstored:
                reason = "holds a formula whose result the file does not hold (save it in a spreadsheet program)"
                values[place] = Unreadable(f"cell {cell.coordinate} {reason}")
        rows.append(values)
    return rows


def _unstored(content: bytes, name: str) -> frozenset[str]:
    """Cells of a sheet that hold formulas; programs that write files without computing them store no results."""
    import openpyxl

    with ZipFile(io.BytesIO(content)) as archive:
        sheets = [archive.read(each) for each in archive.namelist() if each.startswith("xl/worksheets/")]
    if not any(map(_FORMULA.search, sheets)):
        return frozenset()
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    book[name].reset_dimensions()
    return frozenset(cell.coordinate for row in book[name].iter_rows() for cell in row if cell.data_type == "f")


def _dated(rows: Sequence[Numbered]) -> Iterator[Numbered]:
    """The rows with dates where a column holds dates alone, which openpyxl gives as times."""
    from tunery.data.reading.arrow import with_dates

    dated = iter(with_dates([dict(values) for _, values in rows if not isinstance(values, str)]))
    return ((number, values if isinstance(values, str) else next(dated)) for number, values in rows)


def _count(row: Sequence[Any]) -> int:
    return sum(not is_blank(cell) for cell in row)


def _heading_row(cells: Sequence[Sequence[Any]], filled: Sequence[int]) -> int:
    """The first row with content, or, where that is one cell above rows that mostly have more, the first of those."""
    top = filled[0] if filled else 0
    wide = [place for place in filled if _count(cells[place]) > 1]
    if not wide or wide[0] not in filled[1:_TITLE_ROWS] or 2 * len(wide) <= len(filled) - 1:
        return top
    return wide[0]


def _sheet_rows(cells: Sequence[Sequence[Any]], top: int, filled: Sequence[int], where: str) -> Iterator[Numbered]:
    if not filled:
        return
    bottom = filled[-1]  # rows below the last content are formatting
    width = 1 + max(place for place, cell in enumerate(cells[top]) if not is_blank(cell))
    heading = heading_names(cells[top][:width], where)
    for number, row in enumerate(cells[top + 1 : bottom + 1], start=top + 2):
        if _count(row[width:]):
            yield number, f"a cell right of the heading's {width} columns"
        else:
            yield number, dict(zip_longest(heading, row[:width]))
