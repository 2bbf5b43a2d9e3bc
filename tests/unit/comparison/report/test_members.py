"""Members of a task: shown for the best of each method, and part of no test."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from tests.unit.comparison.entries_made import run, seeds

from tunery.comparison.entries import RunEntry
from tunery.comparison.leaderboard import rank
from tunery.comparison.report.columns import parts
from tunery.comparison.report.members import member_scores, member_tables, members_plot
from tunery.comparison.report.plots import figures

HANS = {"hans": 0.2}
MEMBERS = ["hans_swap", "hans_passive"] * 60


def grouped(entry: RunEntry) -> RunEntry:
    """The same run, whose items are turn by turn of one member and of another."""
    samples, bases = ({"hans": frames["hans"].assign(task=MEMBERS)} for frames in (entry.samples, entry.base_samples))
    return dataclasses.replace(entry, samples=samples, base_samples=bases)


def by_hand(frames: list[pd.DataFrame], member: int) -> float:
    values = [frame["acc"].iloc[member::2].mean() for frame in frames]
    return sum(values) / len(values)


RUNS = [grouped(one) for method in ("lora", "icl") for one in seeds(method, HANS, count=2, method=method)]


def test_a_members_score_is_the_mean_of_its_items_over_the_seeds_beside_the_bases() -> None:
    (found,) = member_scores(rank(RUNS).main)
    assert found.items == {"hans_swap": 60, "hans_passive": 60}
    assert set(found.scores) == {"base", "lora", "icl"}
    for place, member in enumerate(found.items):
        assert found.scores["base"][member] == pytest.approx(by_hand([RUNS[0].base_samples["hans"]], place))
        for method in ("lora", "icl"):
            own = [one.samples["hans"] for one in RUNS if one.method == method]
            assert found.scores[method][member] == pytest.approx(by_hand(own, place))


def test_a_method_is_shown_by_its_best_configuration() -> None:
    worse = [grouped(one) for one in seeds("worse", {"hans": -0.1}, count=2)]
    (found,) = member_scores(rank([*worse, *RUNS]).main)
    assert found.configurations["lora"] == "lora"
    assert len(found.scores) == 3


def test_members_are_shown_and_no_pair_is_tested_on_one() -> None:
    comparison = rank(RUNS)
    (table,) = member_tables(comparison.main)
    assert [row[0] for row in table.rows] == ["hans_swap", "hans_passive"]
    assert table in parts(comparison)
    assert table not in parts(comparison, narrow=True), "a terminal has no room for thirty rows"
    assert {pair.task for pair in comparison.main.pairs} == {"hans"}
    assert {name for one in comparison.main.contenders for name in one.cells} == {"hans"}
    plot = figures(comparison)["members"].axes[0]
    assert [label.get_text() for label in plot.get_yticklabels()] == ["hans_swap", "hans_passive"]


def test_a_task_without_members_or_answers_is_left_out() -> None:
    board = rank([run("lora", HANS), run("icl", HANS, method="icl")]).main
    assert (member_scores(board), member_tables(board), members_plot(board)) == ([], [], None)
