"""A comparison's tables and page, from made-up runs; golden files for what others read."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from csv import reader as csv_reader
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from rich.console import Console
from tests.unit.comparison.entries_made import curves, quickstart, run, seeds, with_conditions, without_samples

from tunery.comparison.entries import RunEntry, Votes
from tunery.comparison.leaderboard import rank
from tunery.comparison.records import Comparison
from tunery.comparison.report.conclusions import conclusions
from tunery.comparison.report.plots import figures, pareto
from tunery.comparison.report.tables import csv, frame, latex, markdown, page, pairs_frame, terminal
from tunery.reporting.figures import short_label

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden"
HOSTILE = r"a|b_c & 50% <script>alert(1)</script> [bold]x[/] `y` \end{table} #1 ~$^{}"
FACTS = {"world_facts": 0.25}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    runs = list(quickstart())
    runs[0] = dataclasses.replace(runs[0], votes=Votes(14, 3, 6))
    return rank(runs)


@pytest.fixture(scope="module")
def hostile() -> Comparison:
    task = {HOSTILE: 0.2}
    return rank([run(HOSTILE, task, data=HOSTILE), with_conditions(run("x", task), HOSTILE, few_shot=HOSTILE)])


def printed(comparison: Comparison, width: int = 130) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    for part in terminal(comparison):
        console.print(part)
    return text.getvalue()


def drawn(comparison: Comparison, *notes: str) -> str:
    return page(comparison, figures(comparison), notes)


def test_markdown_is_the_golden_one(comparison: Comparison) -> None:
    assert markdown(comparison) == (GOLDEN / "comparison.md").read_text(encoding="utf-8")


def test_latex_is_the_golden_one(comparison: Comparison) -> None:
    assert latex(comparison) == (GOLDEN / "comparison.tex").read_text(encoding="utf-8")


def test_csv_is_the_golden_one(comparison: Comparison) -> None:
    assert csv(frame(comparison)) == (GOLDEN / "comparison.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_other_peoples_names_are_no_formulas_in_csv(name: str) -> None:
    found = rank([run(name, {name: 0.2}, data=name), run("x", {name: 0.3})])
    cells = [cell for table in (frame(found), pairs_frame(found)) for row in csv_rows(csv(table)) for cell in row]
    number = re.compile(r"[-+]?[\d.]+(e-?\d+)?")
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r")) and not number.fullmatch(cell)] == []
    assert "'" + name.replace("\r", "\n") in cells


def csv_rows(text: str) -> list[list[str]]:
    return list(csv_reader(io.StringIO(text, newline="")))


def test_the_terminal_shows_the_golden_tables(comparison: Comparison) -> None:
    assert printed(comparison) == (GOLDEN / "comparison.txt").read_text(encoding="utf-8")


def test_the_frame_has_a_row_a_configuration_and_keeps_what_was_set_apart(comparison: Comparison) -> None:
    table = frame(comparison)
    assert len(table) == 7 + 1 + 1
    assert list(table["place"][:7]) == [1, 2, 3, 4, 5, 6, 7]
    assert table.loc[8, "reason"].startswith("its score on world_facts is nan")
    first = table.iloc[0]
    assert first["delta/world_facts/acc"] == pytest.approx(first["world_facts/acc"] - first["base/world_facts/acc"])
    assert first["delta/world_facts/acc_low"] < first["delta/world_facts/acc"] < first["delta/world_facts/acc_high"]
    assert first["run_ids"].split(" ") == [one.run_id for one in comparison.main.contenders[0].runs]


def test_the_frame_of_pairs_has_every_pair_of_every_board(comparison: Comparison) -> None:
    table = pairs_frame(comparison)
    assert len(table) == 21 * 3
    assert set(table["task"]) == {"score", "world_facts", "world_comparison"}
    assert len(pd.read_csv(io.StringIO(csv(table)))) == len(table)


def test_other_peoples_names_are_no_markup_in_markdown(hostile: Comparison) -> None:
    text = markdown(hostile)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    by_table = re.split(r"\n\n", text)
    for table in (part.splitlines() for part in by_table if part.startswith("|")):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert tables
    assert "<script>" not in re.sub(r"`[^`]*`|\\<", "", text)


def test_other_peoples_names_are_no_commands_in_latex(hostile: Comparison) -> None:
    text = latex(hostile)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}")
    assert r"50\%" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(re.search(r"(?<!\\)[%#_$](?!\\pm|\\times|\$)", row.replace("$\\pm$", "")) is None for row in rows)


@pytest.mark.parametrize("name", ["[2pt]", "*"])
def test_a_name_is_no_option_of_the_row_before_it_in_latex(name: str) -> None:
    runs = [run(name, FACTS, data=data) for data in (name, f"{name} more")]
    text = latex(rank(runs))
    assert re.search(r"\\midrule\s*\{\}" + re.escape(name), text)
    assert not re.search(r"(\\\\|\\midrule)\s*[\[*]", text)


def test_notes_of_the_reading_are_shown_and_are_no_markup(comparison: Comparison) -> None:
    note = "Without samples: ![x](http://e.vil/x.png) <script>alert(1)</script>"
    text = markdown(comparison, [note])
    assert text.startswith(markdown(comparison))
    assert text.endswith("\n\n> Without samples: !\\[x\\](http://e.vil/x.png) \\<script\\>alert(1)\\</script\\>\n")
    assert "![x](http://e.vil/x.png) &lt;script&gt;" in drawn(comparison, note)


def test_other_peoples_names_are_no_markup_in_a_terminal(hostile: Comparison) -> None:
    assert "[bold]x[/]" in "".join(printed(hostile, 400).split("\n"))


def test_the_base_is_named_where_there_are_several() -> None:
    one, other = run("a", FACTS), run("b", FACTS, base="mistral")
    assert "base model" not in markdown(rank([one]))
    assert "| `mistral` |" in markdown(rank([one, other]))


class Reader(HTMLParser):
    """Collects a page's tags, the addresses it would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_page_needs_no_network_and_has_the_conclusions_on_top(comparison: Comparison) -> None:
    text = drawn(comparison)
    reader = read(text)
    assert all(address.startswith("data:") for address in reader.addresses)
    assert "http-equiv" not in text
    assert 'name="viewport"' in text
    first = conclusions(comparison)[0]
    assert first in text
    assert text.index(first) < text.index("<table>")
    assert reader.tags.count("img") == len(figures(comparison))
    assert reader.tags.count("table") == 8


def test_no_number_on_the_page_is_parted_from_its_unit(comparison: Comparison) -> None:
    cells = re.findall(r'<td class="number">([^<]*)</td>', drawn(comparison))
    assert {"1.00\N{NO-BREAK SPACE}GiB", "2\N{NO-BREAK SPACE}min\N{NO-BREAK SPACE}00\N{NO-BREAK SPACE}s"} <= set(cells)
    assert {text.split(" ", 1)[1][:2] for text in cells if " " in text} == {"to", "±\N{NO-BREAK SPACE}", "(+"}


def test_a_picture_is_as_wide_as_it_was_drawn(comparison: Comparison) -> None:
    widths = dict(re.findall(r'<figure id="(\w+)" style="flex: [\d.]+ 1 ([\d.]+)rem', drawn(comparison)))
    inches = {name: figure.get_size_inches()[0] for name, figure in figures(comparison).items()}
    assert {name: float(width) / 4 for name, width in widths.items()} == pytest.approx(inches)


def test_the_page_is_the_same_every_time(comparison: Comparison) -> None:
    assert drawn(comparison) == drawn(comparison)


def test_other_peoples_names_are_no_markup_on_the_page(hostile: Comparison) -> None:
    text = drawn(hostile)
    assert read(text).tags.count("script") == 1
    assert "alert(1)" in text  # shown, not run


@settings(max_examples=5, deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(max_size=20))
def test_any_name_can_be_shown(name: str, data: str) -> None:
    comparison = rank([run(name, FACTS, data=data, items=6), run("other", FACTS, items=6)])
    assert printed(comparison)
    assert read(drawn(comparison)).tags.count("script") == 1
    assert len(markdown(comparison).splitlines()) > 10
    assert latex(comparison).count(r"\begin{table}") == latex(comparison).count(r"\end{table}")


def test_a_name_with_dollars_is_no_formula() -> None:
    name = r"r=$\foo$"
    tasks = {f"{name} {number}": 0.2 for number in range(6)}
    facts: dict[str, Any] = {"data": name, "method": name, "items": 6}
    text = drawn(rank([run(f"{name} {rows}", tasks, **facts, train_rows=rows) for rows in (1, 2, 3)]))
    assert re.findall(r'<figure id="(\w+)"', text) == [
        "leaderboard",
        "matrix",
        "ranks",
        "loss",
        "learning",
        "rows_cost",
    ]
    assert drawn(rank([run("a", {name: 0.2}, items=6)]))  # whose axis has the task's name


def test_a_script_that_the_font_lacks_is_no_warning() -> None:
    code = (
        "from tests.unit.comparison.entries_made import run; from tunery.comparison.report.plots import figures; "
        "from tunery.comparison.report.tables import page; from tunery.comparison.leaderboard import rank; "
        "found = rank([run('\u6a21\u578b', {'x': 0.2})]); page(found, figures(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


def test_every_picture_that_there_is_something_for(comparison: Comparison) -> None:
    assert list(figures(comparison)) == ["leaderboard", "matrix", "cost", "loss", "tasks"]


def test_a_narrow_terminal_breaks_no_number_and_leaves_out_what_can_be_spared(comparison: Comparison) -> None:
    wide, narrow = printed(comparison), printed(comparison, width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    for one in comparison.main.contenders:
        spread = "" if one.score.spread is None else f" ± {one.score.spread:.3f}"
        assert f"{one.score.value:.3f}{spread}" in narrow
    assert ("time" in wide.split("\n")[2], "time" in narrow.split("\n")[2]) == (True, False)


def imports(count: int, files: int) -> Comparison:
    runs = [
        dataclasses.replace(
            without_samples(run(f"published {number}", FACTS, seed=number, items=12, kind="import")),
            seed=None,
            configuration="",
            source=f"results-{number % files}.json",
        )
        for number in range(count)
    ]
    return rank(runs, tested=3)


@pytest.mark.parametrize(("count", "files"), [(63, 3), (250, 250)])
def test_a_terminal_counts_many_imported_runs_and_the_report_lists_them(count: int, files: int) -> None:
    comparison = imports(count, files)
    shown, report = printed(comparison), markdown(comparison)
    assert f"{count} imported runs, from {files} files; the report lists them." in shown
    assert "results-" not in shown
    assert f"{count - 25} more rows; the report lists them." in shown
    assert len(shown.splitlines()) < 110, "a few screens, however many runs there are"
    named = [name for name in (f"published {number}" for number in range(count)) if name in shown]
    assert len(named) < 40
    assert all(f"imported from results-{number}.json" in report for number in range(files))
    assert all(f"`published {number}`" in report for number in range(count))


def test_the_page_tells_which_versions_a_row_is() -> None:
    runs = [run("lora", FACTS, seed=seed, configuration="c", version=f"small/{seed + 1}") for seed in (0, 1)]
    assert "small/1, small/2" in markdown(rank(runs))


def test_labels_keep_the_ends_in_which_names_differ() -> None:
    names = [f"qlora on a_dataset_of_ours.jsonl learning_rate=2e-{number}" for number in (3, 4)]
    labels = [short_label(name) for name in names]
    assert [len(label) for label in labels] == [28, 28]
    assert labels[0] != labels[1]


def test_a_bare_run_has_just_its_place() -> None:
    bare = dataclasses.replace(run("a", FACTS), curves={}, costs={}, trained_on="", train_rows=None)
    assert list(figures(rank([bare]))) == ["leaderboard"]


def test_several_sizes_of_a_method_are_a_learning_curve() -> None:
    runs = [
        one
        for method in ("lora", "full")
        for rows in (50, 200, 800)
        for one in seeds(f"{method} {rows}", FACTS, count=2, method=method, train_rows=rows)
    ]
    figure = figures(rank(runs))["learning"]
    (axes,) = figure.axes
    lines = {str(line.get_label()): line for line in axes.get_lines() if str(line.get_label()) in ("lora", "full")}
    assert {name: len(line.get_xdata()) for name, line in lines.items()} == {"lora": 3, "full": 3}  # type: ignore[arg-type]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "200", "800"]


def test_time_and_memory_over_rows_are_drawn_beside_it_and_zero_shot_is_a_line() -> None:
    shown = [one for rows in (4, 16) for one in seeds(f"icl {rows}", FACTS, count=2, method="icl", train_rows=rows)]
    trained = [one for rows in (4, 16) for one in seeds(f"lora {rows}", FACTS, count=2, train_rows=rows)]
    bare = dataclasses.replace(run("zero-shot", FACTS, method="none", train_rows=None), costs={})
    found = figures(rank([*shown, *trained, bare]))
    learning, (time, memory) = found["learning"].axes[0], found["rows_cost"].axes
    assert learning.get_xlabel() == "rows trained on, or shown in context"
    assert rank([bare]).main.contenders[0].score.value in levels(learning)
    assert (time.get_ylabel(), memory.get_ylabel()) == ("time", "memory")
    assert {line.get_label() for line in time.get_lines()} == {"icl", "lora"}


def levels(axes: Axes) -> list[float]:
    return [float(np.ravel(line.get_ydata())[0]) for line in axes.get_lines() if line.get_linestyle() == ":"]


def test_a_few_tasks_have_a_learning_curve_each_with_the_bases_own_score_on_it() -> None:
    both = {"hans": 0.1, "mnli": 0.3}
    runs = [one for rows in (4, 16) for one in seeds(f"lora {rows}", both, count=2, train_rows=rows)]
    panels = figures(rank(runs))["learning"].axes
    assert [axes.get_ylabel() for axes in panels] == ["hans, acc", "mnli, acc"]
    assert [levels(axes) for axes in panels] == [[runs[0].tasks[task].base] for task in both]


def test_intervals_of_two_seeds_do_not_stretch_an_axis_past_what_a_score_can_be() -> None:
    runs = [
        run(f"icl {rows}", {"nli": gain}, seed=seed, train_rows=rows, method="icl")
        for rows in (2, 8)
        for seed, gain in ((0, -0.4), (1, 0.45))
    ]
    board = rank(runs).main
    assert max(one.cells["nli"].high for one in board.contenders) > 1.5, "a t interval of two seeds"
    figure = figures(rank(runs))["learning"]
    assert figure.axes[0].get_ylim() == pytest.approx((-0.03, 1.03))
    ends = [y for bar in figure.axes[0].containers for cap in bar.lines[1] for y in cap.get_ydata()]
    assert sorted(ends) == pytest.approx([0.0, 0.0, 1.0, 1.0]), "a bar that leaves the picture has no end to be seen"
    assert figure.get_suptitle() == "Learning curves, 95% intervals, cut at 0 and 1"


def test_intervals_within_0_and_1_are_drawn_whole() -> None:
    runs = [run(f"lora {rows}", {"nli": 0.1}, train_rows=rows) for rows in (4, 16)]
    board = rank(runs).main
    figure = figures(rank(runs))["learning"]
    ends = [y for bar in figure.axes[0].containers for cap in bar.lines[1] for y in cap.get_ydata()]
    whole = [end for one in board.contenders for end in (one.cells["nli"].low, one.cells["nli"].high)]
    assert sorted(ends) == pytest.approx(sorted(whole))
    assert figure.get_suptitle() == "Learning curves, 95% intervals"


@pytest.mark.parametrize(("trained", "shown", "said"), [(0.45, 0.0, "Yes"), (0.0, 0.45, "No"), (0.2, 0.2, "The data")])
def test_whether_fine_tuning_was_needed_is_said_of_the_best_of_each(trained: float, shown: float, said: str) -> None:
    runs = [
        *seeds("lora best", {"hans": trained}, items=400),
        *seeds("lora worse", {"hans": -0.2}, items=400),
        *seeds("shown", {"hans": shown}, items=400, method="icl"),
    ]
    (sentence,) = [one for one in conclusions(rank(runs)) if one.startswith("Did you need to fine-tune?")]
    assert sentence.startswith(f"Did you need to fine-tune? {said}")
    assert "lora best (lora)" in sentence
    assert "shown (icl)" in sentence
    assert not any("fine-tune" in one for one in conclusions(rank(runs[:6])))


def test_two_tasks_are_drawn_one_against_the_other_with_the_base() -> None:
    both = {"hans": 0.1, "mnli": 0.3}
    runs = [one for name in ("a", "b", "c") for one in seeds(name, both, count=2, method=name)]
    (axes,) = figures(rank(runs))["tasks"].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hans, acc", "mnli, acc")
    assert set(axes.get_legend_handles_labels()[1]) == {"a", "b", "c", "base"}
    assert "tasks" not in figures(rank(runs[:4]))


def test_ranks_over_tasks_are_a_critical_difference_diagram() -> None:
    tasks = [f"task{n}" for n in range(6)]
    runs = [run(name, dict.fromkeys(tasks, gain)) for name, gain in (("a", 0.3), ("b", 0.15), ("c", 0.0))]
    figure = figures(rank(runs))["ranks"]
    assert {text.get_text().split(" (")[0].strip() for text in figure.axes[0].texts} & {"a"}


def test_the_front_is_what_nothing_beats_for_less() -> None:
    def priced(name: str, gain: float, seconds: float) -> RunEntry:
        return dataclasses.replace(run(name, {"world_facts": gain}), costs={"train_seconds": seconds})

    board = rank([priced("cheap", 0.0, 1), priced("dear", 0.45, 9), priced("waste", 0.0, 10)]).main
    assert [one.name for one in pareto(board.contenders, "train_seconds")] == ["cheap", "dear"]


def test_each_seed_has_a_loss_curve() -> None:
    runs = [dataclasses.replace(one, curves=curves(n)) for n, one in enumerate(seeds("a", FACTS))]
    training, validation = figures(rank(runs))["loss"].axes[:2]
    assert (len(training.get_lines()), len(validation.get_lines())) == (3, 3)


def test_a_run_with_one_point_is_drawn_beside_the_curves_of_others() -> None:
    short, long = {"validation/nll": [(8, 1.51)]}, {"validation/nll": [(8, 1.35), (16, 1.18)]}
    a, b = run("a", FACTS), run("b", FACTS, 1)
    drawn = figures(rank([dataclasses.replace(a, curves=short), dataclasses.replace(b, curves=long)]))["loss"]
    assert {tuple(line.get_ydata()) for line in drawn.axes[0].get_lines()} == {(1.51,), (1.35, 1.18)}
    assert all(line.get_marker() == "o" for line in drawn.axes[0].get_lines())
    assert "loss" not in figures(rank([dataclasses.replace(a, curves=short)]))
