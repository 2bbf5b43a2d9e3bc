"""What a comparison refuses, writes and is kept as."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from tests.unit.comparison.entries_made import run, with_conditions

from tunery.comparison import compare
from tunery.comparison.compare import CompareOptions, Report, compare_runs, report_of
from tunery.comparison.entries import RunEntry, TaskScore
from tunery.comparison.leaderboard import rank
from tunery.comparison.records import Comparison
from tunery.comparison.report.plots import figures
from tunery.comparison.selection import Selection
from tunery.errors import InputError, StorageError
from tunery.runs.observer import Observer
from tunery.tracking import store as stores

ODD = "![x](http://evil.example/x.png) <img src=x>"


def with_task(entry: RunEntry, value: float, counts: bool, named: bool) -> RunEntry:
    extra = TaskScore("extra", "acc", value, None, 9, counts=counts)
    return dataclasses.replace(entry, tasks={**entry.tasks, "extra": extra}, named=named)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return rank([run(ODD, {"quiz": 0.1}), run("plain", {"quiz": 0.0})])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_of_a_named_run_only_what_counts_must_be_a_number(value: float) -> None:
    plain = run("plain", {"quiz": 0.1})
    compare._refuse_named_nan([with_task(plain, value, counts=False, named=True)])
    compare._refuse_named_nan([with_task(plain, value, counts=True, named=False)])
    with pytest.raises(InputError, match=f"extra is {value}"):
        compare._refuse_named_nan([with_task(plain, value, counts=True, named=True)])


def test_as_many_are_tested_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [run(f"run {number}", {"quiz": number / 10}) for number in range(4)]
    monkeypatch.setattr(stores, "connect", lambda *_: None)
    monkeypatch.setattr(compare, "gather", lambda *_: (entries, []))
    found = compare_runs(Selection(), CompareOptions(tested=3, record=False), Observer())
    assert len(found.main.over_all) == 3, "the pairs of three of the four"


def test_scores_through_any_template_are_ranked_together_where_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        with_conditions(run(name, {"quiz": 0.1}), "quiz", template=name)
        for name in ("own", "own, enable_thinking=false")
    ]
    monkeypatch.setattr("tunery.comparison.read.read", lambda *_: (entries, []))
    monkeypatch.setattr("tunery.comparison.samples.with_answers", lambda _, some: list(some))
    store: Any = None
    apart, notes = compare.gather(store, Selection(), CompareOptions(curves=False))
    assert len(rank(apart).boards) == 2
    assert not any("--any-template" in note for note in notes)
    together, notes = compare.gather(store, Selection(), CompareOptions(curves=False, any_template=True))
    assert len(rank(together).boards) == 1
    assert any("own, own, enable_thinking=false" in note for note in notes)


def test_an_earlier_comparisons_plots_make_way_and_other_files_stay(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    mine = [tmp_path / "mine.txt", tmp_path / "plots" / "mine.png"]
    stale = tmp_path / "plots" / "ranks.png"  # of one task nothing can be said over tasks
    for path in (*mine, stale):
        path.write_text("old")
    written = report_of(comparison).write(tmp_path)
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {*written, "mine.txt", "plots/mine.png"}
    assert all(path.read_text() == "old" for path in mine)


@pytest.mark.parametrize("record", [True, False])
def test_a_folder_that_is_full_keeps_its_earlier_comparison_and_costs_no_run(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bool
) -> None:
    report_of(comparison).write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept: list[str] = []
    monkeypatch.setattr(stores, "connect", lambda *_: None)
    monkeypatch.setattr(compare, "gather", lambda *_: ([run("a", {"quiz": 0.1}), run("b", {"quiz": 0.2})], []))
    monkeypatch.setattr(compare, "_record", lambda *_: (kept.append("kept") or "id", "page"))
    monkeypatch.setattr(compare, "report_of", lambda *_: Report({"comparison.md": "new"}, {"cost": _Full()}))
    with pytest.raises(StorageError, match=r"No space left on device.*another folder with --out"):
        compare_runs(Selection(), CompareOptions(out=tmp_path, record=record, curves=False), Observer())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert kept == ["kept"] * record


class _Full(Figure):
    """A picture for which the disk has no room."""

    def savefig(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)  # root may write everywhere
    with pytest.raises(StorageError, match=f"{tmp_path} cannot be written"):
        compare_runs(Selection(), CompareOptions(out=tmp_path / "new" / "out"), Observer(), tracking_uri="http://none")
    assert list(tmp_path.iterdir()) == []


def test_every_plot_is_one_of_those_that_make_way() -> None:
    full = [
        run(f"run {number}", dict.fromkeys("abcdefg", number / 20), seed=seed)
        for number in range(4)
        for seed in range(2)
    ]
    assert set(figures(rank(full))) <= set(compare.PLOTS)


def test_notes_of_the_reading_stand_in_the_report_and_on_the_page_without_markup(comparison: Comparison) -> None:
    forms = report_of(comparison, [f"Without samples: {ODD}."]).texts
    assert "Without samples" in forms["comparison.md"]
    said = forms["comparison.md"].partition("Without samples")[2]
    assert r"\[x\](http" in said
    assert r"\<img" in said
    said = forms["comparison.html"].partition("Without samples")[2]
    assert "&lt;img src=x&gt;" in said
    assert "<img src=x>" not in said


def test_a_runs_name_is_no_markup_in_the_list_of_links() -> None:
    links = compare._links([run(ODD, {"quiz": 0.1}, experiment_id="1")])
    assert f"- [`{ODD}`](#/experiments/1/runs/" in links
    assert links.rstrip().endswith("?workflowType=machine_learning)")


@pytest.mark.parametrize(
    ("projects", "kept_in"), [(("one", "one"), "one"), (("one", "two"), "comparisons"), (("", " "), "comparisons")]
)
def test_a_comparison_is_kept_in_the_project_that_all_runs_are_of(projects: tuple[str, ...], kept_in: str) -> None:
    runs = [run(f"run {number}", {"quiz": 0.1}, project=name) for number, name in enumerate(projects)]
    assert compare._project(runs) == kept_in
