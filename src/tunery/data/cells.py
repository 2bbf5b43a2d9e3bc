"""Cleaning of the columns that a prompt template names, before it is filled: its own words and marks stay."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from tunery.config.data import CleanConfig, RowSource
from tunery.data.clean import rewriting
from tunery.data.prompt_template import parse_template
from tunery.data.reading.rows import Row, Rows, is_blank
from tunery.records.rows import Drop


@dataclass(frozen=True)
class CleanedCells:
    """A source's rows with the cells of its template cleaned."""

    rows: Rows
    drops: list[Drop] = field(default_factory=list)  # rows of whose cells nothing is left
    changed: dict[str, set[str]] = field(default_factory=dict)  # origins of the rows that each step altered


def clean_cells(rows: Rows, source: RowSource, config: CleanConfig) -> CleanedCells:
    """The rows with the texts of the template's columns cleaned; as they are where the source has no template."""
    columns = parse_template(source.prompt_template or "").columns
    steps = rewriting(config) if columns else {}
    if not steps:
        return CleanedCells(rows)
    changed: dict[str, set[str]] = defaultdict(set)
    kept, drops = [], []
    for row in rows.rows:
        cells = {name: cell for name in columns if isinstance(cell := row.values.get(name), str)}
        blank = not any(map(str.strip, cells.values()))
        last = ""
        for step, edit in steps.items():
            edited = {name: edit(cell) for name, cell in cells.items()}
            if edited != cells:
                changed[step].add(row.origin)
                cells, last = edited, step
        values = {**row.values, **cells}
        if not blank and all(is_blank(values.get(name)) for name in columns):
            drops.append(Drop(row.origin, f"nothing left of the prompt template's columns after {last}"))
        else:
            kept.append(Row(row.origin, values))
    return CleanedCells(replace(rows, rows=kept), drops, dict(changed))
