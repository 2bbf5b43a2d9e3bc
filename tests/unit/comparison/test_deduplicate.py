"""Which runs of one model share a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.comparison import read
from tunery.comparison.deduplicate import by_true_names, latest, with_evaluations
from tunery.comparison.entries import Entry, RunEntry, SamplesLocation, TaskScore, Votes


def reading(run_id: str, tasks: Mapping[str, Mapping[str, str]], started: int = 0, **facts: Any) -> RunEntry:
    """A run of the same configuration and seed as all others here; conditions by task."""
    scores = {
        task: TaskScore(task, conditions.get("metric", "acc"), 0.5, 0.01, 100, conditions=conditions)
        for task, conditions in tasks.items()
    }
    entry = Entry(run_id, run_id, "train", "p", "b", "lora", "d", "c", 0, scores, started_ms=started)
    source = SamplesLocation(run_id, "file:///none", "samples", "b", "", None)
    return RunEntry(entry, dict.fromkeys(scores, source), {}, "1", **facts)


def tasks_of(rows: list[RunEntry]) -> dict[str, list[str]]:
    return {one.entry.run_id: list(one.entry.tasks) for one in rows}


def test_runs_of_one_model_that_were_asked_in_different_ways_stand_for_themselves() -> None:
    five, zero = reading("five", {"quiz": {"few_shot": "5"}}, 1), reading("zero", {"quiz": {"few_shot": "0"}}, 2)
    again = reading("again", {"quiz": {"few_shot": "5"}}, 3)
    assert tasks_of(latest([five, zero, again])) == {"again": ["quiz"], "zero": ["quiz"]}


def test_scores_by_different_metrics_stand_for_themselves() -> None:
    both = latest([reading("acc", {"quiz": {"metric": "acc"}}), reading("f1", {"quiz": {"metric": "f1"}})])
    assert len(both) == 2


def test_what_nobody_recorded_sets_no_run_apart() -> None:
    silent, later = reading("silent", {"quiz": {}}, 1), reading("later", {"quiz": {"few_shot": "5"}}, 2)
    assert tasks_of(latest([silent, later])) == {"later": ["quiz"]}


def test_the_same_items_settle_how_they_were_chosen() -> None:
    few = reading("few", {"quiz": {"items": "same", "limit": "100"}}, 1)
    every = reading("every", {"quiz": {"items": "same", "limit": "all"}}, 2)
    assert tasks_of(latest([few, every])) == {"every": ["quiz"]}


def test_a_score_on_locked_items_and_one_on_all_are_of_the_same_answers() -> None:
    locked = reading("locked", {"quiz": {"split": "locked"}}, models=("m",))
    every = reading("every", {"quiz": {"split": "all"}}, evaluated="m")
    assert tasks_of(with_evaluations([locked, every])) == {"locked": ["quiz"]}


def test_a_later_evaluation_adds_a_task_and_one_that_asked_otherwise_is_a_row_of_its_own() -> None:
    home = reading("home", {"quiz": {"few_shot": "0"}}, models=("m",))
    other = reading("other", {"quiz": {"few_shot": "5"}}, evaluated="m")
    more = reading("more", {"quiz": {"few_shot": "0"}, "riddles": {"few_shot": "0"}}, evaluated="m")
    assert tasks_of(with_evaluations([home, other, more])) == {"home": ["quiz", "riddles"], "other": ["quiz"]}


def test_a_row_reads_each_task_where_its_score_is_from() -> None:
    old = reading("old", {"quiz": {}, "riddles": {}}, 1)
    [row] = latest([old, reading("new", {"quiz": {}}, 2)])
    assert {task: source.run_id for task, source in row.sources.items()} == {"quiz": "new", "riddles": "old"}


def test_a_task_that_one_run_knows_the_true_name_of_is_called_so_in_all() -> None:
    rows = by_true_names([reading("older", {"a__b": {}}), reading("newer", {"a::b": {}})])
    assert tasks_of(rows) == {"older": ["a::b"], "newer": ["a::b"]}
    assert rows[0].entry.tasks["a::b"].task == "a::b"
    assert list(rows[0].sources) == ["a::b"]


def test_a_row_has_its_own_votes_and_else_those_of_all_of_its_models() -> None:
    votes = {"run": Votes(5, 0, 0), "m2": Votes(5, 0, 0), "m1": Votes(10, 1, 2)}
    own = reading("run", {}, models=("m2", "m1"))
    assert read._votes_of(own, votes) == Votes(5, 0, 0)
    unvoted = reading("unvoted", {}, models=("m2", "m1", "m2"))
    assert read._votes_of(unvoted, votes) == Votes(15, 1, 2)
    assert read._votes_of(reading("nothing", {}), votes) is None
