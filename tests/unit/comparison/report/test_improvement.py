"""The improvement table: every average follows from the rows above it."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.comparison.entries_made import quickstart, run, seeds, valued

from tunery.comparison.entries import RunEntry
from tunery.comparison.leaderboard import rank
from tunery.comparison.report.columns import parts
from tunery.comparison.report.improvement import improvements
from tunery.comparison.report.section import TableSection

TASKS = ("arc", "hellaswag", "mmlu", "truthful")


def table(section: TableSection | None) -> list[list[str]]:
    assert section is not None
    return [list(row) for row in section.rows]


def figure(text: str) -> float:
    return float(text.partition(" ")[0].rstrip("%"))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0.0, 0.4), min_size=2, max_size=4), st.integers(1, 3))
def test_each_average_is_the_mean_of_the_rows_above_it(gains: list[float], count: int) -> None:
    made = seeds("lora", dict(zip(TASKS, gains, strict=False)), count, items=40)
    *rows, average = table(improvements(rank(made).main))
    assert average[2] == f"average of {len(gains)} benchmarks"
    for column in (3, 4, 5):
        assert figure(average[column]) == pytest.approx(statistics.fmean(figure(row[column]) for row in rows), abs=1e-4)
    assert figure(average[6]) == pytest.approx(statistics.fmean(figure(row[6]) for row in rows), abs=0.01)
    for row in (*rows, average):
        assert figure(row[5]) == pytest.approx(figure(row[4]) - figure(row[3]), abs=1.5e-4)


def test_the_error_of_an_average_is_that_of_a_mean_of_independent_benchmarks() -> None:
    *rows, average = table(improvements(rank([run("lora", dict.fromkeys(TASKS, 0.2))]).main))
    errors = [float(row[5].partition("± ")[2]) for row in rows]
    assert float(average[5].partition("± ")[2]) == pytest.approx(math.hypot(*errors) / len(errors), rel=0.05)


def test_there_are_rows_for_every_training_set_and_none_for_a_bare_model() -> None:
    bare = dataclasses.replace(run("bare", {"arc": 0.0}), kind="base", trained_on="", method="none")
    made = [run("lora", {"arc": 0.2}, data=data) for data in ("books", "chat")]
    rows = table(improvements(rank([*made, bare]).main))
    assert [row[0] for row in rows] == ["books", "chat"], "one benchmark needs no average"


def test_a_metric_of_which_less_is_better_improves_upwards() -> None:
    def row(name: str) -> list[str]:
        entry = valued(run(name, {"wiki": 0.2}), "wiki", 18.0, base=20.0, base_stderr=0.1, higher_is_better=False)
        found = improvements(rank([dataclasses.replace(entry, samples={}, base_samples={})]).main)
        assert found is not None
        assert found.notes[-1] == "Less is better: wiki."
        return table(found)[0]

    assert row("lora")[3:5] == ["20.0000", "18.0000"]
    assert row("lora")[5].startswith("+2.0000")
    assert row("lora")[6] == "+10.00%"


def perplexed(*tasks: str) -> RunEntry:
    """A run whose perplexity of each of these fell from 20 to 18, beside an accuracy on arc."""
    entry = run("lora", {"arc": 0.2, **dict.fromkeys(tasks, 0.2)})
    for task in tasks:
        entry = valued(entry, task, 18.0, base=20.0, base_stderr=0.1, higher_is_better=False)
    return dataclasses.replace(entry, samples={}, base_samples={})


def test_metrics_of_different_directions_have_no_average_but_of_their_improvements() -> None:
    arc, wiki, average = table(improvements(rank([perplexed("wiki")]).main))
    assert average[2:5] == ["average of 2 benchmarks", "–", "–"]
    assert figure(average[5]) == pytest.approx((figure(arc[5]) + figure(wiki[5])) / 2, abs=1e-4)


def test_an_average_of_perplexities_is_one_as_they_are() -> None:
    entry = perplexed("wiki", "news")
    entry = dataclasses.replace(entry, tasks={name: entry.tasks[name] for name in ("wiki", "news")})
    *_, average = table(improvements(rank([entry]).main))
    assert average[3:5] == ["20.0000", "18.0000"]
    assert average[5].startswith("+2.0000")


def test_pages_have_the_table_and_a_terminal_does_not() -> None:
    found = rank(quickstart())
    assert "Improvement over the base" in [part.title for part in parts(found)]
    assert "Improvement over the base" not in [part.title for part in parts(found, narrow=True, brief=True)]
