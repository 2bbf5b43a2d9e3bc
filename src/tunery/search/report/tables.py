"""A study as tables: a DataFrame of trials, and tables of trials and finalists for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunery.records.studies import StudyRecord, TrialRow
from tunery.reporting.text import duration, number, one_line, plus_minus, shown, signed
from tunery.search.report.facts import (
    best_first,
    configurations_first,
    finalists_first,
    gap,
    mean,
    pareto,
    references,
    seeds_of,
    spread,
)

_ROWS = 12  # trials in a terminal; MLflow has all of them
_FIRST = ("number", "name", "state", "failure", "feasible")  # columns before the objectives
_LAST = ("seconds", "attempts", "reason", "run_id")
_STATE_STYLES = {"pruned": "yellow", "failed": "red", "running": "cyan", "waiting": "dim"}


def trials_table(record: StudyRecord) -> pd.DataFrame:
    """One row per trial: number, name, state, failure, feasible, objectives, settings, all metrics, seconds, run.

    Settings have their full keys. A setting whose condition did not hold is empty, as is a metric that is unknown.
    """
    rows = []
    for row in record.trials:
        # Lists and mappings as text, which every format of a table can hold.
        plain = (bool, int, float, str, type(None))
        settings = {key: value if isinstance(value, plain) else str(value) for key, value in row.settings.items()}
        values = {name: row.values.get(name, math.nan) for name in record.objectives}
        rows.append(
            {**settings, **row.metrics, **values, **{name: getattr(row, name) for name in (*_FIRST, *_LAST, "seed")}}
        )
    keys = dict.fromkeys(key for row in record.trials for key in row.settings)
    first = (*_FIRST, "seed") if record.repeats else _FIRST
    measured = dict.fromkeys(name for row in record.trials for name in row.metrics if name not in record.objectives)
    return pd.DataFrame(rows, columns=[*first, *record.objectives, *keys, *measured, *_LAST])


def study_table(record: StudyRecord) -> Table:
    """The best trials, then those that did not complete; a star marks the Pareto front. Of repeats, configurations."""
    if record.repeats:
        return _configurations_table(record)
    ended = best_first(record)
    known = {row.number for row in ended}
    rows = [*ended, *(row for row in record.trials if row.number not in known)]
    front = pareto(record) if len(record.objectives) > 1 else []
    table = _table(f"Trials of {record.name}")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in record.objectives:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("settings", ratio=1, overflow="fold")
    if len(record.objectives) == 1:  # with more, the settings need the room
        table.add_column("time", justify="right", no_wrap=True)
    for row in rows[:_ROWS]:
        style = "" if row.state == "complete" and row.feasible else _STATE_STYLES.get(row.state, "dim")
        values = [Text(shown(name, row.values.get(name)), style=style) for name in record.objectives]
        settings = Text(row.name).append(f"  {_outcome(row)}" if style else "", style=style)
        cells = [Text(f"{'*' if row in front else ''}{row.number}"), *values, settings, Text(duration(row.seconds))]
        table.add_row(*cells[: len(table.columns)])
    notes = ["* on the Pareto front"] if front else []
    notes += [f"{len(rows) - _ROWS} more trials are in MLflow"] if len(rows) > _ROWS else []
    table.caption = Text("; ".join(notes))
    return table


def _configurations_table(record: StudyRecord) -> Table:
    """A row a configuration: the objectives' means over its repeats, the best first."""
    table = _table(f"Configurations of {record.name} (mean ± standard deviation over repeats)")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in record.objectives:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("settings", ratio=1, overflow="fold")
    table.add_column("repeats", justify="right", no_wrap=True)
    for one in configurations_first(record):
        values = (spread_of(name, values) for name, values in seeds_of(one, record.objectives).items())
        table.add_row(str(one.trial), *values, Text(one.name), str(len(one.seeds)))
    lost = sum(row.state != "complete" for row in record.trials)
    table.caption = Text(f"{lost} trials are not complete: see the report" if lost else "")
    return table


def _outcome(row: TrialRow) -> str:
    """How a trial that is no result ended, in words: "constraint not met", pruned, "killed (its worker died)", ..."""
    ended = row.failure or (row.state if row.state == "pruned" else None)
    if ended is not None:
        return f"{ended} ({one_line(row.reason, 60)})" if row.reason else ended
    return "constraint not met" if row.state == "complete" else row.state


def finalists_table(record: StudyRecord) -> Table | None:
    """The finalists' values, and their dev and locked scores over seeds beside the base's; None if there are none."""
    if not record.finalists:
        return None
    seeds = max(len(one.seeds) for one in record.finalists)
    said = "The best configurations, with" if record.repeats else "Finalists, trained again with"
    table = _table(f"{said} {seeds} {'' if record.repeats else 'other '}seeds (mean ± standard deviation)")
    table.add_column("", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("settings", ratio=1, overflow="fold")
    # What the winner is chosen by, if that is not the score; the report has further objectives too.
    judged = [name for name in list(record.objectives)[:1] if name != "score"]
    for name in judged:
        table.add_column(name, justify="right", overflow="fold")
    scored = any(one.dev for one in record.finalists)
    for name in ("dev score", "locked score", "gap") if scored else ():
        table.add_column(name, justify="right", no_wrap=True)
    for one in finalists_first(record):
        won = one.trial == record.winner
        cells = ["★" if won else "", str(one.trial), f"{one.name} (the project's own)" if one.own else one.name]
        cells += [spread_of(name, seeds_of(one, record.objectives)[name]) for name in judged]
        cells += [plus_minus(mean(scores), spread(scores), 3) for scores in (one.dev, one.locked)]
        cells.append(signed(gap(one), 3))
        table.add_row(*(Text(cell, style="bold green" if won else "") for cell in cells[: len(table.columns)]))
    for name, dev, locked, difference in references(record) if scored else ():
        known = [number(dev, 3), number(locked, 3), signed(difference, 3)]
        table.add_row("", "", Text(name, style="dim"), *("–" for _ in judged), *known)
    return table


def spread_of(metric: str, values: Sequence[float]) -> str:
    """Mean of any metric over seeds with its standard deviation, in its unit: "1 min 02 s ± 3.1 s"."""
    deviation = spread(values)
    text = shown(metric, mean(values))
    return text if math.isnan(deviation) else f"{text} ± {shown(metric, deviation).lstrip('+')}"


def _table(title: str) -> Table:
    # Text: rich would read a name in square brackets as markup.
    styled = Text(title, style="italic")
    return Table(title=styled, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, expand=False)
