"""The tables of a comparison as plain texts, which terminal, Markdown, LaTeX and HTML then draw each in its own way."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from tunery.comparison.records import Board, Comparison, LeaderboardRow, ScoreCell
from tunery.comparison.report.conclusions import caveats, places
from tunery.comparison.report.improvement import improvements
from tunery.comparison.report.members import member_tables
from tunery.comparison.report.section import TableSection
from tunery.comparison.report.speed import conditions_of, rate_columns, rate_note, rates, speed_tables
from tunery.reporting.answers import changed, chosen, majority
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


def parts(comparison: Comparison, narrow: bool = False, brief: bool = False) -> list[TableSection]:
    """Every table: the main board's, then one for each board that was set apart, then the runs on none.

    A terminal and a printed page are narrow: only the columns that say which is best. A terminal is brief, too.
    """
    main = comparison.main
    found = [
        leaderboard(main, comparison.confidence, narrow, brief),
        scores(main, comparison.confidence),
        None if narrow else improvements(main),
        answers(main),
        *([] if narrow else member_tables(main)),
        matrix(main),
        pairs(main, comparison.confidence),
        votes(main, comparison.confidence),
        *speed_tables(main),
        *(leaderboard(board, comparison.confidence, narrow, brief) for board in comparison.boards[1:]),
        unranked(comparison),
    ]
    return [part for part in found if part is not None]


def leaderboard(board: Board, confidence: float, narrow: bool = False, brief: bool = False) -> TableSection:
    """Contenders by score, each beside its base, with the places that the data allow; empty columns are left out."""
    level = f" {confidence:.0%} interval"
    several_bases = len({one.first.base for one in board.contenders}) > 1
    fast, shown = rate_columns(board), conditions_of(board)[:1]
    rows = [
        _leaderboard_row(one, level, several_bases, len(board.tasks) > 1) | dict.fromkeys(fast, "–") | rates(one, shown)
        for one in board.contenders
    ]
    only_wide = {"method", "trained on", "versions", "base model", " rows", level, " mean rank"}
    only_wide |= {f" {heading}" for name, heading in COSTS.items() if name != "train_seconds"}
    only_wide |= set(fast)
    used = [heading for heading in rows[0] if any(row[heading] != "–" for row in rows)]
    used = [heading for heading in used if not narrow or heading not in only_wide]
    texts = tuple(tuple(row[heading] for heading in used) for row in rows)
    title = f"Set apart: {board.reason}" if board.reason else "Leaderboard"
    notes = (*caveats(board, brief), *([rate_note(board)] if set(fast) & set(used) else []))
    return TableSection(title, tuple(used), texts, notes=notes, spare=_SPARE)


def _leaderboard_row(one: LeaderboardRow, level: str, several_bases: bool, several_tasks: bool) -> dict[str, str]:
    first, score, gain = one.first, one.score, one.score.gain
    return {
        " place": str(one.place),
        " range": places(one),
        "configuration": one.name,
        "method": first.method or "–",
        "trained on": first.trained_on or "–",
        # What `tunery promote` is told: one a seed.
        "versions": listed([run.version for run in one.runs if run.version], 3) or "–",
        "base model": (first.base if several_bases else "") or "–",
        " rows": "–" if first.train_rows is None else f"{first.train_rows:,}",
        " seeds": str(one.seeds),
        " score": plus_minus(score.value, score.spread, 3),
        level: interval(score.low, score.high, 3),
        " base": number(score.base, 3),
        " gain": signed(gain.value if gain else None, 3),
        " gain's interval": interval(gain.low, gain.high, 3, sign=True) if gain else "–",
        " p": p_cell(gain.adjusted if gain else None),
        " mean rank": f"{one.average_rank:.2f}" if several_tasks else "–",
        **{f" {heading}": _cost(name, one.costs.get(name)) for name, heading in COSTS.items()},
    }


def _cost(name: str, value: float | None) -> str:
    if value is not None and name == "energy_joules":
        return f"{value / 3.6e6:.3g} kWh"
    return shown(name, value)


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
    text = plus_minus(cell.value, cell.spread, 3)
    star = "*" if cell.gain is not None and cell.gain.is_sure(confidence) else ""
    return text if cell.delta is None else f"{text} ({signed(cell.delta, 3)}{star})"


def answers(board: Board) -> TableSection | None:
    """What each configuration chose on the multiple-choice tasks, beside the score of one answer to all items."""
    rows = tuple(
        (
            one.name, _named(board, task), number(cell.value, 3), majority(cell.answers), chosen(cell.answers),
            changed(cell.changed),
        )
        for one in board.contenders
        for task, cell in one.cells.items()
        if cell.answers is not None
    )  # fmt: skip
    headings = ("configuration", "task", " score", " majority answer", "answers chosen", " changed")
    notes = (
        "The majority answer is right most often: its score is that of giving it to every item.",
        "Changed: items to which the base gave another answer.",
    )
    return TableSection("Answers chosen", headings, rows, notes=notes, spare=("task", " changed")) if rows else None


def matrix(board: Board) -> TableSection | None:
    """Mean score and delta of the configurations trained on a dataset (rows), by what they were evaluated on."""
    rows, tasks = means(board), shown_tasks(board)
    counts = Counter(one.first.trained_on for one in board.contenders)
    texts = []
    for name, found in rows.items():
        deltas = ["" if math.isnan(found[task][1]) else f" ({signed(found[task][1], 3)})" for task in tasks]
        cells = [number(found[task][0], 3) + delta for task, delta in zip(tasks, deltas, strict=True)]
        texts.append((name, str(counts[name]), *cells))
    headings = ("trained on", " configurations", *(f" {_named(board, task)}" for task in tasks))
    title = "Trained on × evaluated on: mean score (mean delta from the base)"
    return TableSection(title, headings, tuple(texts)) if rows else None


def means(board: Board) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean score and mean delta by training dataset and task, NaN where there is none; bare models are left out."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in sorted({one.first.trained_on for one in board.contenders} - {""}):
        found[name] = {}
        for task in shown_tasks(board):
            cells = [one.cells[task] for one in board.contenders if one.first.trained_on == name and task in one.cells]
            deltas = [cell.delta for cell in cells if cell.delta is not None]
            value = statistics.fmean(cell.value for cell in cells) if cells else math.nan
            found[name][task] = (value, statistics.fmean(deltas) if deltas else math.nan)
    return found


def pairs(board: Board, confidence: float) -> TableSection | None:
    """The pairs that places rest on, the surest first."""
    found = sorted(board.over_all, key=lambda pair: (math.isnan(pair.difference.p_value), pair.difference.p_value))
    if not found:
        return None
    rows = tuple(
        (
            pair.one, pair.other, signed(pair.difference.value, 3),
            interval(pair.difference.low, pair.difference.high, 3, sign=True),
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
    found = TableSection("Votes against the base", headings, rows, notes=("Ties are left out of the rate.",))
    return found if rows else None


def unranked(comparison: Comparison) -> TableSection | None:
    """Runs that cannot be ranked at all."""
    rows = tuple((one.run.name, one.run.run_id, one.reason) for one in comparison.unranked)
    return TableSection("Not ranked", ("run", "id", "reason"), rows) if rows else None
