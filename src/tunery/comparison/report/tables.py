"""A comparison for pandas, CSV and a terminal, as Markdown and LaTeX, and as a page that needs no network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from jinja2 import Environment, PackageLoader
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tunery.comparison.records import Board, Comparison, LeaderboardRow, ScoreCell
from tunery.comparison.report.columns import parts
from tunery.comparison.report.conclusions import conclusions
from tunery.comparison.report.section import TableSection
from tunery.reporting.text import cell, counted, csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    `delta/<task>/<metric>`, with `_stderr`, `_low`, `_high`, `_p` (corrected) where they are known, and `_majority`,
    the score of one answer to all items. Configurations that were set apart follow with their `reason` and a place on
    their own board; runs that cannot be ranked come last.
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
    first, score = one.first, one.score
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
        **({} if score.gain is None else {"gain": score.gain.value}),
        **_bounds("gain", score),
        "average_rank": one.average_rank,
    }
    for task, found in one.cells.items():
        key = f"{task}/{found.metric}"
        facts |= {**_measured(key, found), f"base/{key}": found.base, f"delta/{key}": found.delta}
        facts |= _bounds(f"delta/{key}", found)
        facts |= {f"{key}_majority": found.answers.majority_score} if found.answers else {}
    rate = one.win_rate
    facts |= {} if rate is None else {"win_rate": rate.rate, "win_rate_low": rate.low, "win_rate_high": rate.high}
    run_ids = " ".join(run.run_id for run in one.runs)
    return {
        **facts,
        **one.costs,
        **_speeds(one),
        "version": first.version or "",
        "run_ids": run_ids,
        "reason": board.reason,
    }


def _speeds(one: LeaderboardRow) -> dict[str, float]:
    """speed/<device, lengths>/batch_<n>/<what>: numbers of several devices are never in one column."""
    facts = {}
    for speed in one.speeds:
        key = f"speed/{speed.device}, {speed.prompt_tokens}+{speed.new_tokens} tokens"
        facts[f"{key}/load_seconds"] = speed.load_seconds
        facts[f"{key}/batch_{speed.batch}/first_token_seconds"] = speed.first_token_seconds.value
        facts[f"{key}/batch_{speed.batch}/tokens_per_second"] = speed.tokens_per_second.value
        facts[f"{key}/batch_{speed.batch}/peak_memory_bytes"] = speed.peak_memory_bytes
    return facts


def _measured(key: str, found: ScoreCell) -> dict[str, object]:
    errors = {"stderr": found.stderr, "sd": found.spread, "low": found.low, "high": found.high}
    return {key: found.value, **{f"{key}_{name}": value for name, value in errors.items()}}


def _bounds(key: str, found: ScoreCell) -> dict[str, float]:
    """The delta's interval in the metric's own direction, and its corrected p."""
    gain = found.gain
    if gain is None:
        return {}
    low, high = (gain.low, gain.high) if found.higher_is_better else (-gain.high, -gain.low)
    return {f"{key}_low": low, f"{key}_high": high, f"{key}_p": gain.adjusted}


def pairs_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a pair and task of every board: difference, interval, p and corrected p, test, items."""
    rows = [
        {"board": number, "task": pair.task, "first": pair.one, "second": pair.other, **vars(pair.difference)}
        for number, board in enumerate(comparison.boards)
        for pair in board.pairs
    ]
    found = pd.DataFrame(rows).rename(columns={"value": "difference", "p_value": "p", "adjusted": "p_corrected"})
    columns = ["board", "task", "first", "second", "difference", "low", "high", "p", "p_corrected", "test", "items"]
    return found.reindex(columns=columns)


def csv(table: pd.DataFrame) -> str:
    """A frame as CSV."""
    return csv_text(table, float_format="%.6g")


# ---- terminal


def terminal(comparison: Comparison) -> list[RenderableType]:
    """Tables for a terminal, each with its first rows, then the conclusions in words."""
    found: list[RenderableType] = []
    for part in parts(comparison, narrow=True, brief=True):
        more = len(part.rows) - _MOST_ROWS
        found.append(_Fitted(replace(part, rows=part.rows[:_MOST_ROWS])))
        notes = [f"{counted(more, 'more row')}; the report lists them."] if more > 0 else []
        found += [Text(f"  {note}", style="dim") for note in [*notes, *part.notes]]
    return [*found, *(Text(sentence, style="bold") for sentence in conclusions(comparison))]


@dataclass(frozen=True)
class _Fitted:
    """A table as wide as there is room: names are folded, a number never is; what can be spared is left out."""

    part: TableSection

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        part, columns = self.part, list(range(len(self.part.headings)))
        for heading in part.spare:
            if heading in part.headings and sum(map(self._needed, columns)) > options.max_width:
                columns.remove(part.headings.index(heading))
        # Text: a name in square brackets would pass for rich's markup.
        table = Table(title=Text(part.title, style="italic"), title_justify="left", box=SIMPLE_HEAD)
        for heading in (part.headings[place] for place in columns):
            number = heading.startswith(" ")
            table.add_column(heading.strip(), justify="right" if number else "left", overflow="fold", no_wrap=number)
        for place, row in enumerate(part.rows):
            if place in part.groups:
                table.add_section()
            table.add_row(*(Text(row[column]) for column in columns))
        yield table

    def _needed(self, column: int) -> int:
        heading = self.part.headings[column]
        widest = max(len(text) for text in (heading.strip(), *(row[column] for row in self.part.rows)))
        return _PADDING + (widest if heading.startswith(" ") else min(widest, _NARROWEST_NAME))


# ---- Markdown


def markdown(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The conclusions, then every table, then notes on how the runs were read."""
    lines = ["# Comparison", "", *(f"- {_prose(sentence)}" for sentence in conclusions(comparison)), ""]
    for part in parts(comparison):
        headings = [_prose(heading.strip()) for heading in part.headings]
        rule = ["---:" if heading.startswith(" ") else "---" for heading in part.headings]
        rows = [list(map(_markdown_cell, row, part.headings)) for row in part.rows]
        table = [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]
        lines += [f"## {_prose(part.title)}", "", *table, "", *(f"> {_prose(note)}\n" for note in part.notes)]
    lines += [f"> {_prose(note)}\n" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_cell(text: str, heading: str) -> str:
    """Numbers as they are; a name is code, so that nothing in it is emphasis or a link."""
    if heading.startswith(" ") or text == "–":
        return text.replace("|", "\\|").replace("*", "\\*")
    return cell(text)


def _prose(text: str) -> str:
    """A sentence whose names are other people's: no markup in it counts."""
    return re.sub(r"[\\`*_\[\]<>|]", r"\\\g<0>", " ".join(text.split()))


# ---- LaTeX and HTML


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


def page(comparison: Comparison, figures: Mapping[str, Figure], notes: Sequence[str] = ()) -> str:
    """The whole comparison in one file, the conclusions on top; a click on a heading sorts its table."""
    board = comparison.main
    templates = Environment(loader=PackageLoader("tunery.comparison", "report"), autoescape=True)
    templates.filters["unbroken"] = _unbroken
    text = templates.get_template("page.html.j2").render(
        title=f"{counted(len(board.contenders), 'configuration')} on {counted(len(board.tasks), 'task')}",
        conclusions=conclusions(comparison),
        confidence=f"{comparison.confidence:.0%}",
        tables=parts(comparison),
        pictures=[(name, _picture(figure), *map(float, figure.get_size_inches())) for name, figure in figures.items()],
        notes=notes,
    )
    return f"{text}\n"


def _unbroken(text: str) -> str:
    """A number on one line with its unit; what follows it, to its interval's other end, may be on the next."""
    return re.sub(r" (?!to |± |\()", "\N{NO-BREAK SPACE}", text)


def _picture(figure: Figure) -> str:
    """The SVG in base 64, as wide as its place on the page: the same bytes every time, no date and no random ids."""
    import matplotlib as mpl

    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "tunery"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return base64.b64encode(written.getvalue()).decode()
