"""Generations as .xlsx: base and tuned side by side, for people who read answers rather than numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.errors import StorageError
from tunery.records import Generation

_HEADINGS = ("prompt", "reference", "base", "tuned")
_WIDTH_CHARACTERS = 48
# The most that a cell of .xlsx holds.
_CELL_CHARACTERS = 32767


def write_spreadsheet(generations: Sequence[Generation], path: Path) -> Path:
    """Write generations as a sheet with a frozen heading, wrapped text and a filter.

    Model text is data: a cell that begins with "=" stays text instead of becoming a formula, and control characters
    that the format forbids are shown as U+FFFD.

    Args:
        generations: One a prompt.
        path: The .xlsx file.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    from openpyxl import Workbook
    from openpyxl.styles import Font

    workbook = Workbook()
    sheet: Any = workbook.active
    sheet.title = "generations"
    sheet.append(_HEADINGS)
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for row, generation in enumerate(generations, start=2):
        for column, heading in enumerate(_HEADINGS, start=1):
            _write_text(sheet.cell(row, column), getattr(generation, heading))
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = sheet.dimensions
    for letter in "ABCD":
        sheet.column_dimensions[letter].width = _WIDTH_CHARACTERS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workbook.save(path)
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror or error}.") from error
    return path


def _write_text(cell: Any, text: str) -> None:
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment

    cell.value = ILLEGAL_CHARACTERS_RE.sub("\ufffd", text)[:_CELL_CHARACTERS]
    cell.data_type = "s"
    cell.quotePrefix = text.startswith("=")
    cell.alignment = Alignment(wrap_text=True, vertical="top")
