"""The tables of a comparison as plain texts, which terminal, Markdown, LaTeX and HTML then draw each in its own way."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunery.comparison.records import Board, Comparison, LeaderboardRow, ScoreCell
from tunery.comparison.report.conclusions import caveats, places
from tunery.records import Difference
from tunery.reporting.text import counted, interval, listed, number, p_cell, plus_minus, shown, signed

_SPARE = (" time", " base", " seeds", " gain's interval")
MOST_PAIRS = 45  # of ten contenders; the others stand in the CSV of pairs
COSTS = {
    "train_seconds": "time",
    "energy_joules": "energy",
    "peak_memory_bytes": "memory",
    "trainable_parameters": "trained parameters",
    "model_bytes": "adapter",
}


@dataclass(frozen=True)
class TableSection:
    """One table."""

    title: str
    # Names of the columns; those that begin with a space are of numbers, and stand to the right.
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # texts, as many in each as there are headings
    groups: tuple[int, ...] = ()  # rows before which a new group begins
    notes: tuple[str, ...] = ()  # sentences below it
    # Headings of columns that a terminal may leave out where it has no room, the first one first.
    spare: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    """A column of the leaderboard, left out where all rows are empty; a narrow page keeps only the needed ones."""

    heading: str
    text: Callable[[LeaderboardRow], str]
    needed: bool = True


def parts(comparison: Comparison, narrow: bool = False, brief: bool = False) -> list[TableSection]:
    """Every table: the main board's, then one for each board that was set apart, then the runs on none.

    Args:
        narrow: For a terminal or a printed page: only the columns that say which is best.
        brief: For a terminal: notes on single runs are counted, not listed.
    """
    main = comparison.main
    found = [
        leaderboard(main, comparison.confidence, narrow, brief),
        scores(main, comparison.confidence),
        matrix(main),
        pairs(main, comparison.confidence),
        votes(main, comparison.confidence),
        *(leaderboard(board, comparison.confidence, narrow, brief) for board in comparison.boards[1:]),
        unranked(comparison),
    ]
    return [part for part in found if part is not None]


def leaderboard(board: Board, confidence: float, narrow: bool = False, brief: bool = False) -> TableSection:
    """Contenders by score, each beside its base, with the places that the data allow."""
    columns = [one for one in _columns(board, confidence) if one.needed or not narrow]
    texts = [tuple(column.text(one) for column in columns) for one in board.contenders]
    used = [place for place in range(len(columns)) if any(row[place] != "–" for row in texts)]
    title = f"Set apart: {board.reason}" if board.reason else "Leaderboard"
    rows = tuple(tuple(row[place] for place in used) for row in texts)
    headings = tuple(columns[place].heading for place in used)
    return TableSection(title, headings, rows, notes=tuple(caveats(board, brief)), spare=_SPARE)


def _columns(board: Board, confidence: float) -> list[_Column]:
    level = f"{confidence:.0%} interval"
    several_bases = len({one.first.base for one in board.contenders}) > 1
    return [
        _Column(" place", lambda one: str(one.place)),
        _Column(" range", places),
        _Column("configuration", lambda one: one.name),
        _Column("method", lambda one: one.first.method or "–", needed=False),
        _Column("trained on", lambda one: one.first.trained_on or "–", needed=False),
        # What `tunery promote` is told: one a seed.
        _Column("versions", lambda one: listed([run.version for run in one.runs if run.version], 3) or "–", False),
        _Column("base model", lambda one: (one.first.base if several_bases else "") or "–", needed=False),
        _Column(
            " rows", lambda one: "–" if one.first.train_rows is None else f"{one.first.train_rows:,}", needed=False
        ),
        _Column(" seeds", lambda one: str(one.seeds)),
        _Column(" score", lambda one: _with_spread(one.score)),
        _Column(f" {level}", lambda one: interval(one.score.low, one.score.high, 3), needed=False),
        _Column(" base", lambda one: number(one.score.base, 3)),
        _Column(" gain", lambda one: signed(one.score.gain.value, 3) if one.score.gain else "–"),
        _Column(" gain's interval", lambda one: _span(one.score.gain)),
        _Column(" p", lambda one: p_cell(one.score.gain.adjusted if one.score.gain else None)),
        _Column(" mean rank", lambda one: f"{one.average_rank:.2f}" if len(board.tasks) > 1 else "–", needed=False),
        *(_cost_column(name, heading) for name, heading in COSTS.items()),
    ]


def _cost_column(name: str, heading: str) -> _Column:
    return _Column(f" {heading}", lambda one: cost(name, one.costs.get(name)), needed=name == "train_seconds")


def cost(name: str, value: float | None) -> str:
    """A cost in the unit that its name carries."""
    if value is not None and name == "energy_joules":
        return f"{value / 3.6e6:.3g} kWh"
    return shown(name, value)


def _span(found: Difference | None) -> str:
    return "–" if found is None else interval(found.low, found.high, 3, sign=True)


def _with_spread(cell: ScoreCell) -> str:
    """Mean over seeds with their standard deviation; of one seed the value alone."""
    return plus_minus(cell.value, cell.spread, 3)


def scores(board: Board, confidence: float) -> TableSection:
    """Each task's score with its delta from the base, configurations grouped by what they were trained on."""
    tasks = shown_tasks(board)
    ordered = sorted(board.contenders, key=lambda one: (one.first.trained_on, one.place))
    rows = [
        (one.first.trained_on or "–", one.name, *(_score_text(one.cells.get(task), confidence) for task in tasks))
        for one in ordered
    ]
    groups = tuple(place for place in range(1, len(rows)) if rows[place][0] != rows[place - 1][0])
    headings = ("trained on", "configuration", *(f" {_named(board, task)}" for task in tasks))
    notes = ["Score ± standard deviation over seeds (delta from the base)."]
    notes += [f"* surely differs from the base ({confidence:.0%}, corrected for all cells)."]
    less = [task for task in tasks if not cell_of(board, task).higher_is_better]
    notes += [f"Less is better: {', '.join(less)}."] if less else []
    return TableSection("Scores by task", headings, tuple(rows), groups, tuple(notes), spare=("trained on",))


def shown_tasks(board: Board) -> list[str]:
    """The tasks that rank, then those that contenders were scored on besides."""
    return list(dict.fromkeys([*board.tasks, *(task for one in board.contenders for task in one.cells)]))


def cell_of(board: Board, task: str) -> ScoreCell:
    """Any contender's cell: all of a task's cells share metric and direction."""
    return next(one.cells[task] for one in board.contenders if task in one.cells)


def _named(board: Board, task: str) -> str:
    beside = "" if task in board.tasks else ", not in the score"
    return f"{task} ({cell_of(board, task).metric}{beside})"


def _score_text(cell: ScoreCell | None, confidence: float) -> str:
    if cell is None:
        return "–"
    if cell.delta is None:
        return _with_spread(cell)
    star = "*" if cell.gain is not None and cell.gain.is_sure(confidence) else ""
    return f"{_with_spread(cell)} ({signed(cell.delta, 3)}{star})"


def matrix(board: Board) -> TableSection | None:
    """Mean score and delta of the configurations trained on a dataset (rows), by what they were evaluated on."""
    rows, tasks = trained_on(board), shown_tasks(board)
    if not rows:
        return None
    texts = [
        (
            name,
            str(len(members)),
            *(_mean_text([one.cells[task] for one in members if task in one.cells]) for task in tasks),
        )
        for name, members in rows.items()
    ]
    headings = ("trained on", " configurations", *(f" {_named(board, task)}" for task in tasks))
    return TableSection("Trained on × evaluated on: mean score (mean delta from the base)", headings, tuple(texts))


def trained_on(board: Board) -> dict[str, list[LeaderboardRow]]:
    """Contenders by training dataset, those that were not trained left out."""
    names = sorted({one.first.trained_on for one in board.contenders} - {""})
    return {name: [one for one in board.contenders if one.first.trained_on == name] for name in names}


def _mean_text(cells: Sequence[ScoreCell]) -> str:
    value, delta = mean_of(cells)
    return "–" if math.isnan(value) else number(value, 3) + ("" if math.isnan(delta) else f" ({signed(delta, 3)})")


def mean_of(cells: Sequence[ScoreCell]) -> tuple[float, float]:
    """Mean value and mean delta; NaN where there is none."""
    deltas = [cell.delta for cell in cells if cell.delta is not None]
    return (
        statistics.fmean(cell.value for cell in cells) if cells else math.nan,
        statistics.fmean(deltas) if deltas else math.nan,
    )


def pairs(board: Board, confidence: float) -> TableSection | None:
    """The pairs that places rest on, the surest first."""
    found = sorted(board.over_all, key=lambda pair: (math.isnan(pair.difference.p_value), pair.difference.p_value))
    if not found:
        return None
    rows = tuple(
        (
            pair.one, pair.other, signed(pair.difference.value, 3), _span(pair.difference),
            p_cell(pair.difference.adjusted), pair.difference.test, str(pair.difference.items or "–"),
        )
        for pair in found[:MOST_PAIRS]
    )  # fmt: skip
    more = len(found) - MOST_PAIRS
    notes = ["p after Holm's correction for all pairs; above 0 the first is better. Intervals are of each pair alone."]
    notes += [f"{counted(more, 'more pair')}, less sure than these."] if more > 0 else []
    headings = ("first", "second", " difference", f" {confidence:.0%} interval", " p", "test", " items")
    return TableSection("Pairs on the score", headings, rows, notes=tuple(notes), spare=(" items", "test"))


def votes(board: Board, confidence: float) -> TableSection | None:
    """How often people preferred the answers to the base's."""
    rows = tuple(
        (
            one.name, str(one.win_rate.votes.wins), str(one.win_rate.votes.ties), str(one.win_rate.votes.losses),
            f"{one.win_rate.rate:.1%}", f"{one.win_rate.low:.1%} to {one.win_rate.high:.1%}",
        )
        for one in board.contenders
        if one.win_rate is not None
    )  # fmt: skip
    headings = ("configuration", " wins", " ties", " losses", " win rate", f" {confidence:.0%} interval")
    return (
        TableSection("Votes against the base", headings, rows, notes=("Ties are left out of the rate.",))
        if rows
        else None
    )


def unranked(comparison: Comparison) -> TableSection | None:
    """Runs that cannot be ranked at all."""
    rows = tuple((one.run.name, one.run.run_id, one.reason) for one in comparison.unranked)
    return TableSection("Not ranked", ("run", "id", "reason"), rows) if rows else None
