"""Texts of models as .xlsx, for people who read answers rather than numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.errors import StorageError

_WIDTH_CHARACTERS = 48
_CELL_CHARACTERS = 32767  # the most that a cell of .xlsx holds
_NAME_CHARACTERS = 31  # of a sheet
_NOT_IN_NAMES = re.compile(r"[\[\]:*?/\\']")

Rows = Sequence[Sequence[str | float | None]]


def write_workbook(sheets: Mapping[str, Rows], path: Path) -> Path:
    """Write sheets with frozen headings, wrapped texts and filters.

    Model text is data: a cell that begins with "=" stays text instead of becoming a formula, and control characters
    that the format forbids are shown as U+FFFD.

    Args:
        sheets: By name, the headings and then a row each; None is an empty cell.
        path: The .xlsx file.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    from openpyxl import Workbook

    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for name, rows in sheets.items():
        _fill(workbook.create_sheet(_free_name(name, workbook.sheetnames)), rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workbook.save(path)
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror or error}.") from error
    return path


def _fill(sheet: Any, rows: Rows) -> None:
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for number, row in enumerate(rows, start=1):
        for column, value in enumerate(row, start=1):
            if isinstance(value, str):
                _write_text(sheet.cell(number, column), value)
            elif value is not None:
                sheet.cell(number, column).value = value
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = sheet.dimensions
    for column, heading in enumerate(rows[0], start=1):
        holds_text = any(isinstance(row[column - 1], str) for row in rows[1:]) or len(rows) == 1
        width = _WIDTH_CHARACTERS if holds_text else len(str(heading)) + 2
        sheet.column_dimensions[get_column_letter(column)].width = min(width, _WIDTH_CHARACTERS)


def _write_text(cell: Any, text: str) -> None:
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment

    cell.value = ILLEGAL_CHARACTERS_RE.sub("\ufffd", text)[:_CELL_CHARACTERS]
    cell.data_type = "s"
    cell.quotePrefix = text.startswith("=")
    cell.alignment = Alignment(wrap_text=True, vertical="top")


def _free_name(name: str, taken: Sequence[str]) -> str:
    """A name that a sheet may have, and that no other has, whatever its case."""
    plain = _NOT_IN_NAMES.sub("-", name)[:_NAME_CHARACTERS] or "answers"
    used = {one.casefold() for one in taken}
    found, number = plain, 2
    while found.casefold() in used:
        found = f"{plain[: _NAME_CHARACTERS - len(str(number)) - 1]}-{number}"
        number += 1
    return found
