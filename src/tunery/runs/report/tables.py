"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunery.records.runs import RunRecord
from tunery.reporting.text import interval, number, p_cell, signed
from tunery.runs.report.answers import TaskAnswers, answers_by_task, changes_by_task, remarks
from tunery.runs.report.markdown import base_verdict, named, parent_pairs, parent_verdict, verdict, with_error
from tunery.statistics.paired import TaskDifference, compare_tasks

_SURE = 0.05


def run_table(record: RunRecord) -> RenderableType:
    """Base, tuned and delta a task, what a reader must know of the answers, then the verdict in one sentence."""
    answers = answers_by_task(record)
    told = [Text(sentence, style="yellow") for sentence in remarks(record, answers, changes_by_task(record))]
    if record.base and not record.tuned:
        return Group(_own_scores(record, answers), *told, Text(base_verdict(record), style="bold"))
    shown, counted = (
        compare_tasks(record.base, record.tuned, tasks, record.split) for tasks in (record.shown, record.primary)
    )
    said = [
        Text(sentence, style="bold")
        for sentence in (verdict(counted, record.split), parent_verdict(record))
        if sentence
    ]
    parents = parent_pairs(record)
    tables = [_scores("Scores beside the base model's own", "base", shown, record, answers)] if shown else []
    if parents:
        tables.append(_scores(f"Scores beside the parent's, {record.start}", "parent", parents, record, answers))
    return Group(*tables, *(told if tables else ()), *said)


def _scores(
    title: str, before: str, pairs: Sequence[TaskDifference], record: RunRecord, answers: Mapping[str, TaskAnswers]
) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("task", "metric"):
        table.add_column(name)
    items = "items" if record.split == "all" else f"{record.split} items"
    for name in (items, before, record.side, "majority", "delta", "95% interval", "p"):
        table.add_column(name, justify="right")
    for pair in pairs:
        colour = "green" if pair.difference.value > 0 else "red"
        table.add_row(
            Text(named(pair, record)),
            Text(pair.metric),
            str(pair.items),
            number(pair.base, 3),
            number(pair.tuned, 3),
            _majority(answers, pair.task),
            Text(signed(pair.delta, 3), style="dim" if pair.difference.p_value >= _SURE else colour),
            interval(pair.low, pair.high, 3, sign=True),
            p_cell(pair.difference.p_value),
        )
    return table


def _own_scores(record: RunRecord, answers: Mapping[str, TaskAnswers]) -> Table:
    table = Table(title="Scores", title_justify="left")
    for name in ("task", "metric", "score", "majority"):
        table.add_column(name)
    for task, metric in record.shown.items():
        score = with_error(record.base.get(task), metric)
        table.add_row(Text(task), Text(metric), score, _majority(answers, task))
    return table


def _majority(answers: Mapping[str, TaskAnswers], task: str) -> str:
    return number(answers[task].either.majority_score if task in answers else None, 3)
