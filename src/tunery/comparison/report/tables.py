"""A comparison as tables: for pandas, a terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment, PackageLoader
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tunery.comparison.records import Board, Comparison, LeaderboardRow, ScoreCell
from tunery.comparison.report.columns import TableSection, parts
from tunery.comparison.report.conclusions import conclusions
from tunery.reporting.text import cell, counted

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_NARROWEST_NAME = 16
_MOST_ROWS = 25  # of a table in a terminal
_PADDING = 2  # columns of the terminal beside each of the table's


# ---- pandas


def frame(comparison: Comparison) -> pd.DataFrame:
    """One row a configuration: its place, its score and each task's beside the base's, costs, and its runs.

    Columns of a task carry the names that runs have in MLflow: `<task>/<metric>`, `base/<task>/<metric>`,
    `delta/<task>/<metric>`, with `_stderr`, `_low`, `_high`, `_p` (corrected) where they are known. Configurations
    that were set apart follow with their `reason` and a place on their own board; runs that cannot be ranked come last.
    """
    rows = [_row(one, board, number) for number, board in enumerate(comparison.boards) for one in board.contenders]
    rows += [
        {"name": one.run.name, "run_ids": one.run.run_id, "reason": one.reason, "base": one.run.base,
         "method": one.run.method, "trained_on": one.run.trained_on}
        for one in comparison.unranked
    ]  # fmt: skip
    found = pd.DataFrame(rows)
    counts = ["board", "place", "rank_low", "rank_high", "seeds", "train_rows"]
    return found.astype({name: "Int64" for name in counts if name in found})


def _row(one: LeaderboardRow, board: Board, number: int) -> dict[str, object]:
    first, score, gain = one.first, one.score, one.score.gain
    facts: dict[str, object] = {
        "board": number,
        "place": one.place,
        "rank_low": one.ranks[0],
        "rank_high": one.ranks[1],
        "name": one.name,
        "method": first.method,
        "trained_on": first.trained_on,
        "base": first.base,
        "seeds": one.seeds,
        "train_rows": first.train_rows,
        **_measured("score", score),
        "base_score": score.base,
        **({} if gain is None else {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}),
        **({} if gain is None else {"gain_p": gain.adjusted}),
        "average_rank": one.average_rank,
    }
    for task, found in one.cells.items():
        key = f"{task}/{found.metric}"
        facts |= {**_measured(key, found), f"base/{key}": found.base, f"delta/{key}": found.delta}
        facts |= {f"delta/{key}_{name}": value for name, value in _bounds(found).items()}
    rate = one.win_rate
    facts |= {} if rate is None else {"win_rate": rate.rate, "win_rate_low": rate.low, "win_rate_high": rate.high}
    return {
        **facts, **one.costs, "version": first.version or "", "run_ids": " ".join(run.run_id for run in one.runs),
        "reason": board.reason,
    }  # fmt: skip


def _bounds(found: ScoreCell) -> dict[str, float]:
    """The delta's interval in the metric's own direction, and its corrected p."""
    gain = found.gain
    if gain is None:
        return {}
    low, high = (gain.low, gain.high) if found.higher_is_better else (-gain.high, -gain.low)
    return {"low": low, "high": high, "p": gain.adjusted}


def _measured(key: str, found: ScoreCell) -> dict[str, object]:
    return {
        key: found.value, f"{key}_stderr": found.stderr, f"{key}_sd": found.spread, f"{key}_low": found.low,
        f"{key}_high": found.high,
    }  # fmt: skip


def pairs_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a pair and task of every board: difference, interval, p and corrected p, test, items."""
    rows = [
        {
            "board": number, "task": pair.task, "first": pair.one, "second": pair.other,
            "difference": pair.difference.value, "low": pair.difference.low, "high": pair.difference.high,
            "p": pair.difference.p_value, "p_corrected": pair.difference.adjusted, "test": pair.difference.test,
            "items": pair.difference.items,
        }
        for number, board in enumerate(comparison.boards)
        for pair in board.pairs
    ]  # fmt: skip
    columns = ["board", "task", "first", "second", "difference", "low", "high", "p", "p_corrected", "test", "items"]
    return pd.DataFrame(rows, columns=columns)


def csv(comparison: Comparison) -> str:
    """`frame` as CSV."""
    return _csv(frame(comparison))


def pairs_csv(comparison: Comparison) -> str:
    """`pairs_frame` as CSV."""
    return _csv(pairs_frame(comparison))


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# ---- terminal


def terminal(comparison: Comparison) -> list[RenderableType]:
    """Tables for a terminal, each with its first rows, then the conclusions in words."""
    found: list[RenderableType] = []
    for part in parts(comparison, narrow=True, brief=True):
        more = len(part.rows) - _MOST_ROWS
        found.append(_Fitted(dataclasses.replace(part, rows=part.rows[:_MOST_ROWS])))
        notes = [f"{counted(more, 'more row')}; the report lists them."] if more > 0 else []
        found += [Text(f"  {note}", style="dim") for note in [*notes, *part.notes]]
    return [*found, *(Text(sentence, style="bold") for sentence in conclusions(comparison))]


@dataclass(frozen=True)
class _Fitted:
    """A table as wide as there is room: names are folded, a number never is; what can be spared is left out."""

    part: TableSection

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _drawn(self.part, self._columns(options.max_width))

    def _columns(self, width: int) -> list[int]:
        part = self.part
        shown = list(range(len(part.headings)))
        for heading in part.spare:
            if heading in part.headings and sum(map(self._needed, shown)) > width:
                shown.remove(part.headings.index(heading))
        return shown

    def _needed(self, column: int) -> int:
        heading = self.part.headings[column]
        widest = max(len(text) for text in (heading.strip(), *(row[column] for row in self.part.rows)))
        return _PADDING + (widest if heading.startswith(" ") else min(widest, _NARROWEST_NAME))


def _drawn(part: TableSection, columns: Sequence[int]) -> Table:
    # Text: a name in square brackets would pass for rich's markup.
    table = Table(title=Text(part.title, style="italic"), title_justify="left", box=SIMPLE_HEAD)
    for heading in (part.headings[place] for place in columns):
        number = heading.startswith(" ")
        table.add_column(heading.strip(), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for place, row in enumerate(part.rows):
        if place in part.groups:
            table.add_section()
        table.add_row(*(Text(row[column]) for column in columns))
    return table


# ---- Markdown


def markdown(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The conclusions, then every table, then notes on how the runs were read."""
    lines = ["# Comparison", "", *(f"- {_prose(sentence)}" for sentence in conclusions(comparison)), ""]
    for part in parts(comparison):
        lines += [f"## {_prose(part.title)}", "", *_markdown_rows(part), ""]
        lines += _notes(part.notes)
    lines += _notes(notes)
    return "\n".join(lines).rstrip() + "\n"


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"> {_prose(note)}\n" for note in notes]


def _markdown_rows(part: TableSection) -> list[str]:
    rule = ["---:" if heading.startswith(" ") else "---" for heading in part.headings]
    rows = [
        [_markdown_cell(text, heading) for text, heading in zip(row, part.headings, strict=True)] for row in part.rows
    ]
    return [f"| {' | '.join(row)} |" for row in ([_prose(one.strip()) for one in part.headings], rule, *rows)]


def _markdown_cell(text: str, heading: str) -> str:
    """Numbers as they are; a name is code, so that nothing in it is emphasis or a link."""
    if heading.startswith(" ") or text == "–":
        return text.replace("|", "\\|").replace("*", "\\*")
    return cell(text)


def _prose(text: str) -> str:
    """A sentence whose names are other people's: no markup in it counts."""
    flat = " ".join(text.split())
    for mark in "\\`*_[]<>|":
        flat = flat.replace(mark, f"\\{mark}")
    return flat


# ---- LaTeX


def latex(comparison: Comparison) -> str:
    """Every table as a booktabs `tabular` in a `table`, with the columns that a page has room for."""
    templates = Environment(
        loader=PackageLoader("tunery.comparison", "report"),
        variable_start_string="<<",  # braces are LaTeX's own
        variable_end_string=">>",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["tex"] = lambda text: "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return templates.get_template("tables.tex.j2").render(tables=parts(comparison, narrow=True))
