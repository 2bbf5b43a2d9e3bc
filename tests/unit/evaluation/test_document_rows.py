"""Requests become rows, one a document, and rows of a task that begin alike become a group."""

from __future__ import annotations

import pytest
from tests.unit.evaluation.test_shared_context import requests_of
from tests.unit.evaluation.test_shared_prefix import documents, one_task

from tunery.evaluation.document_rows import RowGroup, grouped, rows_of


def test_a_document_with_more_options_than_fit_gets_several_rows() -> None:
    pairs = [([1, 2, 3], [number] * 4) for number in range(10)]
    rows = rows_of(["one"] * 10, pairs, widest=10)
    assert all(row.width <= 10 for row in rows)
    assert sorted(place for row in rows for place in row.options) == list(range(10))


def test_a_request_that_is_longer_than_a_row_is_left_out() -> None:
    rows = rows_of(["one", "one"], [([1, 2, 3], [4, 5]), ([1, 2, 3], [4, 5, 6, 7])], widest=5)
    assert [list(row.options) for row in rows] == [[0]]


def test_rows_are_gathered_by_task_and_keep_a_token_of_their_own() -> None:
    few_shot, other = documents(60), documents(40)
    keys, pairs = requests_of([*few_shot, *other])
    groups = grouped(rows_of(keys, pairs, 512), lambda row: min(row.options) >= 4 * len(few_shot))
    assert sorted(len(group.prefix) for group in groups) == [40, 60]
    twins = [([5] * 40, [[6]])] * 4
    keys, pairs = requests_of(twins)
    (group,) = grouped(rows_of(keys, pairs, 512), one_task)
    assert [list(row.context) for row in group.rows] == [[5]] * 4


@pytest.mark.parametrize(("beginning", "count"), [(8, 7), (60, 2)])
def test_a_short_beginning_or_few_rows_are_not_worth_keeping(beginning: int, count: int) -> None:
    keys, pairs = requests_of(documents(beginning, count))
    rows = rows_of(keys, pairs, 512)
    assert grouped(rows, one_task) == [RowGroup((), rows)]


def test_tasks_without_a_beginning_stay_one_group_widest_first() -> None:
    keys, pairs = requests_of([*documents(3), *documents(4)])
    rows = rows_of(keys, pairs, 512)
    assert grouped(rows, lambda row: min(row.options) % 2) == [RowGroup((), rows)]


def test_nothing_to_answer_makes_no_group() -> None:
    assert grouped([], one_task) == []
