"""A study as tables: a DataFrame of trials, and tables of trials and finalists for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunery.records import Finalist, StudyRecord, TrialRow
from tunery.reporting.text import duration, number, one_line, plus_minus, shown, signed
from tunery.search.report.facts import best_first, finalists_first, gap, mean, pareto, seeds_of, spread

_ROWS = 12  # trials in a terminal; MLflow has all of them
_FIRST = ("number", "name", "state", "failure", "feasible")  # columns before the objectives
_LAST = ("seconds", "attempts", "reason", "run_id")
_STATE_STYLES = {"pruned": "yellow", "failed": "red", "running": "cyan", "waiting": "dim"}


def trials_table(record: StudyRecord) -> pd.DataFrame:
    """One row per trial: number, name, state, failure, feasible, objectives, settings, all metrics, seconds, run.

    Settings have their full keys. A setting whose condition did not hold is empty, as is a metric that is unknown.
    """
    rows = [_as_row(row, record) for row in sorted(record.trials, key=lambda row: row.number)]
    return pd.DataFrame(rows, columns=_columns(record))


def _columns(record: StudyRecord) -> list[str]:
    keys = dict.fromkeys(key for row in record.trials for key in row.settings)
    measured = dict.fromkeys(name for row in record.trials for name in row.metrics if name not in record.objectives)
    return [*_FIRST, *record.objectives, *keys, *measured, *_LAST]


def _as_row(row: TrialRow, record: StudyRecord) -> dict[str, object]:
    settings = {key: _plain(value) for key, value in row.settings.items()}
    objectives = {name: row.values.get(name, math.nan) for name in record.objectives}
    return {**settings, **row.metrics, **objectives, **{name: getattr(row, name) for name in (*_FIRST, *_LAST)}}


def _plain(value: object) -> object:
    """A value that every table format can hold: lists and mappings as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def study_table(record: StudyRecord) -> Table:
    """The best trials, then those that did not complete; a star marks the Pareto front."""
    ended = best_first(record)
    known = {row.number for row in ended}
    rows = [*ended, *(row for row in sorted(record.trials, key=lambda row: row.number) if row.number not in known)]
    front = set(pareto(record)) if len(record.objectives) > 1 else set()
    caption = f"{len(rows) - _ROWS} more trials are in MLflow" if len(rows) > _ROWS else None
    table = _table(f"Trials of {record.name}", caption)
    table.add_column("trial", justify="right", no_wrap=True)
    for name in record.objectives:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("settings", ratio=1, overflow="fold")
    if len(record.objectives) == 1:  # with more, the settings need the room
        table.add_column("time", justify="right", no_wrap=True)
    for row in rows[:_ROWS]:
        table.add_row(*_cells(row, record, row.number in front)[: len(table.columns)])
    if front:
        table.caption = "* on the Pareto front" + (f"; {caption}" if caption else "")
    return table


def _cells(row: TrialRow, record: StudyRecord, on_front: bool) -> Sequence[Text]:
    style = "" if row.state == "complete" and row.feasible else _STATE_STYLES.get(row.state, "dim")
    values = [Text(shown(name, row.values.get(name)), style=style) for name in record.objectives]
    name = Text(row.name)
    if outcome_of(row) != "complete":
        name.append(f"  {outcome_of(row)}", style=style)
    return [Text(f"{'*' if on_front else ''}{row.number}"), *values, name, Text(duration(row.seconds))]


def outcome_of(row: TrialRow) -> str:
    """How a trial ended, in words: complete, "constraint not met", pruned, "failed: killed", ..."""
    if row.failure is not None:
        reason = f" ({one_line(row.reason, 60)})" if row.reason else ""
        return f"{row.failure}{reason}"
    return "constraint not met" if row.state == "complete" and not row.feasible else row.state


def finalists_table(record: StudyRecord) -> Table | None:
    """The finalists' values, and their dev and locked scores over seeds beside the base's; None if there are none."""
    if not record.finalists:
        return None
    seeds = max(len(one.seeds) for one in record.finalists)
    table = _table(f"Finalists, trained again with {seeds} other seeds (mean ± standard deviation)", None)
    table.add_column("", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("settings", ratio=1, overflow="fold")
    first = next(iter(record.objectives))
    scored = any(one.dev for one in record.finalists)
    if first != "score":  # the winner is chosen by it; the report has further objectives too
        table.add_column(first, justify="right", overflow="fold")
    for name in ("dev score", "locked score", "gap") if scored else ():
        table.add_column(name, justify="right", no_wrap=True)
    for one in finalists_first(record):
        objective = spread_of(first, seeds_of(one, record.objectives)[first]) if first != "score" else None
        table.add_row(*_finalist_cells(one, objective, scored, won=one.trial == record.winner))
    if scored and (record.base_dev is not None or record.base_locked is not None):
        dev, locked = number(record.base_dev, 3), number(record.base_locked, 3)
        known = [dev, locked, gap_text(record.base_dev, record.base_locked)]
        table.add_row("", "", Text("the base model", style="dim"), *(["–"] if first != "score" else []), *known)
    return table


def _finalist_cells(one: Finalist, objective: str | None, scored: bool, *, won: bool) -> Sequence[Text]:
    scores = [with_spread(one.dev, 3), with_spread(one.locked, 3), signed(gap(one), 3)] if scored else []
    name = f"{one.name} (the project's own)" if one.own else one.name
    cells = ["★" if won else "", str(one.trial), name, *([objective] if objective else []), *scores]
    return [Text(cell, style="bold green" if won else "") for cell in cells]


def with_spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean score over seeds with their standard deviation: "0.712 ± 0.008"."""
    return plus_minus(mean(values), spread(values), digits)


def spread_of(metric: str, values: Sequence[float]) -> str:
    """Mean of any metric over seeds with its standard deviation, in its unit: "1 min 02 s ± 3.1 s"."""
    deviation = spread(values)
    text = shown(metric, mean(values))
    return text if math.isnan(deviation) else f"{text} ± {shown(metric, deviation).lstrip('+')}"


def gap_text(dev: float | None, locked: float | None, digits: int = 3) -> str:
    """Dev - locked, or a dash if one of them is unknown."""
    return "–" if dev is None or locked is None else signed(dev - locked, digits)


def _table(title: str, caption: str | None) -> Table:
    # Text: rich would read a name in square brackets as markup.
    return Table(
        title=Text(title, style="italic"),
        title_justify="left",
        caption=Text(caption) if caption else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        expand=False,
    )
