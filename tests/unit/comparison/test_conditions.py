"""Which runs of one model share a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.comparison.conditions import latest, with_evaluations
from tunery.comparison.entries import RunEntry, SamplesLocation, TaskScore


def entry(run_id: str, tasks: Mapping[str, Mapping[str, str]], started: int = 0, **facts: Any) -> RunEntry:
    """A run of the same configuration and seed as all others here; conditions by task."""
    scores = {
        task: TaskScore(task, conditions.get("metric", "acc"), 0.5, 0.01, 100, conditions=conditions)
        for task, conditions in tasks.items()
    }
    locations = dict.fromkeys(scores, SamplesLocation(run_id, "file:///none", "samples", "b", "", None))
    return RunEntry(
        run_id, run_id, "train", "p", "b", "lora", "d", "c", 0, scores, started_ms=started, locations=locations, **facts
    )


def tasks_of(rows: list[RunEntry]) -> dict[str, list[str]]:
    return {one.run_id: list(one.tasks) for one in rows}


def test_runs_of_one_model_that_were_asked_in_different_ways_stand_for_themselves() -> None:
    five, zero = entry("five", {"quiz": {"few_shot": "5"}}, 1), entry("zero", {"quiz": {"few_shot": "0"}}, 2)
    again = entry("again", {"quiz": {"few_shot": "5"}}, 3)
    assert tasks_of(latest([five, zero, again])) == {"again": ["quiz"], "zero": ["quiz"]}


def test_scores_by_different_metrics_stand_for_themselves() -> None:
    both = latest([entry("acc", {"quiz": {"metric": "acc"}}), entry("f1", {"quiz": {"metric": "f1"}})])
    assert len(both) == 2


def test_what_nobody_recorded_sets_no_run_apart() -> None:
    silent, later = entry("silent", {"quiz": {}}, 1), entry("later", {"quiz": {"few_shot": "5"}}, 2)
    assert tasks_of(latest([silent, later])) == {"later": ["quiz"]}


def test_the_same_items_settle_how_they_were_chosen() -> None:
    few = entry("few", {"quiz": {"items": "same", "limit": "100"}}, 1)
    every = entry("every", {"quiz": {"items": "same", "limit": "all"}}, 2)
    assert tasks_of(latest([few, every])) == {"every": ["quiz"]}


def test_a_score_on_locked_items_and_one_on_all_are_of_the_same_answers() -> None:
    locked = entry("locked", {"quiz": {"split": "locked"}}, models=("m",))
    every = entry("every", {"quiz": {"split": "all"}}, evaluated="m")
    assert tasks_of(with_evaluations([locked, every])) == {"locked": ["quiz"]}


def test_a_dev_score_is_no_stand_in_for_one_on_all_items() -> None:
    """A search chose by the dev items: a later trial must not replace the score on all items in the leaderboard."""
    every, trial = entry("every", {"quiz": {"split": "all"}}, 1), entry("trial", {"quiz": {"split": "dev"}}, 2)
    assert tasks_of(latest([every, trial])) == {"every": ["quiz"], "trial": ["quiz"]}
    same = [
        entry(name, {"quiz": {"split": split, "items": "same"}}, started)
        for name, split, started in (("every", "all", 1), ("trial", "dev", 2))
    ]
    assert tasks_of(latest(same)) == {"trial": ["quiz"]}, "all items are dev items here"


def test_a_later_evaluation_adds_a_task_and_one_that_asked_otherwise_is_a_row_of_its_own() -> None:
    home = entry("home", {"quiz": {"few_shot": "0"}}, models=("m",))
    other = entry("other", {"quiz": {"few_shot": "5"}}, evaluated="m")
    more = entry("more", {"quiz": {"few_shot": "0"}, "riddles": {"few_shot": "0"}}, evaluated="m")
    assert tasks_of(with_evaluations([home, other, more])) == {"home": ["quiz", "riddles"], "other": ["quiz"]}


def test_an_evaluation_through_offloaded_layers_is_of_another_form_of_the_model_and_a_row_of_its_own() -> None:
    home = entry("home", {"quiz": {}}, models=("m",))
    other = entry("other", {"riddles": {}}, evaluated="m", settings={"base.offload.gpu": "10 GiB"})
    assert tasks_of(with_evaluations([home, other])) == {"home": ["quiz"], "other": ["riddles"]}


def test_a_row_reads_each_task_where_its_score_is_from() -> None:
    old = entry("old", {"quiz": {}, "riddles": {}}, 1)
    [row] = latest([old, entry("new", {"quiz": {}}, 2)])
    assert {task: source.run_id for task, source in row.locations.items()} == {"quiz": "new", "riddles": "old"}
