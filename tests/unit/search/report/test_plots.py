"""Figures of synthetic studies: which can be drawn, what is on them, and that their pages need no network."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from plotly.colors import unlabel_rgb

from tunery.records.studies import Finalist, StudyRecord, TrialRow
from tunery.reporting.figures import ORANGE
from tunery.search.report import pictures
from tunery.search.report.plots import shown_study, space_of, study_figures, study_page

SCORE = {"score": "maximize"}
TWO = {**SCORE, "train_seconds": "minimize"}
THREE = {**TWO, "peak_memory_bytes": "minimize"}


def synthetic(trials: int, objectives: dict[str, str] = SCORE) -> tuple[optuna.Study, StudyRecord]:
    """A study with conditional, logarithmic and categorical settings, pruned and refused trials; rank decides."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=list(objectives.values()), sampler=optuna.samplers.RandomSampler(seed=3))
    rows = [ask(study, number, objectives, random.Random(number)) for number in range(trials)]
    record = StudyRecord("s", "p", "run", objectives, {"peak_memory_bytes": "<= 4 GiB"}, "random", "none", 0, rows)
    return study, record


def ask(study: optuna.Study, number: int, objectives: dict[str, str], noise: random.Random) -> TrialRow:
    trial = study.ask()
    trial.set_user_attr("slot", number)
    settings: dict[str, object] = {
        "training.learning_rate": trial.suggest_float("training.learning_rate", 1e-5, 1e-3, log=True),
        "adapter.rank": trial.suggest_categorical("adapter.rank", [8, 16, 32, 64]),
    }
    if settings["adapter.rank"] != 8:
        settings["training.epochs"] = trial.suggest_int("training.epochs", 1, 4)
    rank = float(str(settings["adapter.rank"]))
    metrics = {
        "delta/piqa": number / 100,
        "score": 0.5 + math.log2(rank) / 20 + noise.random() / 1000,
        "train_seconds": rank + noise.random(),
        "peak_memory_bytes": 2.0**30 * (1 + rank / 20),
    }
    row = TrialRow(
        number, "complete", settings, {name: metrics[name] for name in objectives}, metrics, name=f"n{number}"
    )
    if number % 5 == 4:
        study.tell(trial, state=TrialState.PRUNED)
        return dataclasses.replace(row, state="pruned", values={})
    study.tell(trial, list(row.values.values()))
    return dataclasses.replace(row, feasible=rank < 64)


def with_finalists(record: StudyRecord) -> StudyRecord:
    best, own = record.trials[1], record.trials[0]
    finalists = [
        Finalist(
            best.number, best.name, best.settings, (1, 2), (0.72, 0.74), (0.69, 0.71), ("a", "b"), values=(0.72, 0.74)
        ),
        Finalist(
            own.number,
            own.name,
            own.settings,
            (1, 2),
            (0.60, 0.62),
            (0.61, 0.63),
            ("c", "d"),
            own=True,
            values=(0.60, 0.62),
        ),
    ]
    return dataclasses.replace(record, finalists=finalists, winner=best.number)


# ---- which figures there are


def test_a_study_with_one_objective_has_every_figure_but_the_front() -> None:
    study, record = synthetic(20)
    assert list(study_figures(study, with_finalists(record))) == [
        "history", "importances", "slice", "parallel", "dev_locked",
    ]  # fmt: skip


def test_further_objectives_have_figures_of_their_own() -> None:
    figures = study_figures(*synthetic(20, {**SCORE, "delta/piqa": "maximize"}))
    assert {"history", "history-delta_piqa", "importances-delta_piqa", "slice-delta_piqa", "pareto"} <= set(figures)


def test_trials_with_a_loss_have_their_scores_drawn_against_it() -> None:
    study, record = synthetic(12)
    rows = [
        dataclasses.replace(row, metrics={**row.metrics, "validation/nll": 1.0 - row.metrics["score"]})
        for row in record.trials
    ]
    figure = study_figures(study, dataclasses.replace(record, trials=rows))["score_against_loss"]
    assert len(figure.picture.axes[0].collections[0].get_offsets()) == 10, "two of twelve were pruned"
    assert (
        figure.picture.axes[0].get_title("left").startswith("Does lower loss mean a better score? n = 10, Spearman's")
    )
    assert len(figure.interactive.data[0].x) == 10


@pytest.mark.parametrize("objectives", [TWO, THREE])
def test_two_or_three_objectives_have_a_front(objectives: dict[str, str]) -> None:
    assert "pareto" in study_figures(*synthetic(12, objectives))


@pytest.mark.parametrize(
    ("trials", "names"),
    [(0, set()), (1, {"history", "slice"}), (2, {"history", "slice"}), (3, {"history", "slice", "parallel"})],
)
def test_what_too_few_trials_cannot_show_is_left_out(
    trials: int, names: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(study_figures(*synthetic(trials))) == names
    assert caplog.records == []


def test_equal_scores_have_no_importances() -> None:
    study, record = synthetic(20)
    rows = [dataclasses.replace(row, values={"score": 0.5} if row.values else {}) for row in record.trials]
    assert "importances" not in study_figures(study, dataclasses.replace(record, trials=rows))


def test_a_study_in_which_every_trial_is_refused_is_still_drawn(caplog: pytest.LogCaptureFixture) -> None:
    study, record = synthetic(12, TWO)
    rows = [dataclasses.replace(row, feasible=False) for row in record.trials]
    with caplog.at_level(logging.WARNING):
        assert {"history", "slice"} <= set(study_figures(study, dataclasses.replace(record, trials=rows)))
    assert caplog.records == []


def test_a_figure_that_fails_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("no such axis")

    monkeypatch.setattr(pictures, "slices", broken)
    figures = study_figures(*synthetic(20))
    assert "slice" not in figures
    assert "parallel" in figures
    assert "the figure 'slice' could not be drawn: TypeError: no such axis" in caplog.text


def test_a_backend_without_its_toolkit_costs_the_figures_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def switch(backend: str) -> None:
        if backend != "agg":
            raise ImportError("no toolkit")

    monkeypatch.setattr(plt, "switch_backend", switch)
    monkeypatch.setattr(mpl, "get_backend", lambda: "cairo")
    assert study_figures(*synthetic(20)) == {}
    assert "the figure 'slice' could not be drawn: ImportError: no toolkit" in caplog.text


# ---- what is on them


def test_the_setting_that_decides_is_the_most_important_one() -> None:
    figures = study_figures(*synthetic(40))
    labels = [label.get_text() for label in figures["importances"].picture.axes[0].get_yticklabels()]
    assert labels == ["learning_rate", "rank"]  # from below; epochs depend on the rank


def test_trials_have_the_numbers_of_the_report_whatever_the_study_holds_beside_them() -> None:
    study, record = synthetic(3)
    for _ in range(2):
        study.tell(study.ask(), state=TrialState.FAIL)  # surplus
    late = ask(study, 3, SCORE, random.Random(3))
    assert study.trials[-1].number == 5
    shown = shown_study(dataclasses.replace(record, trials=[*record.trials, late]), space_of(study), ["score"])
    assert [trial.number for trial in shown.get_trials(states=[TrialState.COMPLETE])] == [0, 1, 2, 3]
    assert shown.trials[3].value == late.values["score"]
    assert set(shown.trials[3].params) <= {"learning_rate", "rank", "epochs"}


def test_a_setting_outside_of_its_range_is_left_out_of_its_figure_only() -> None:
    study, record = synthetic(8)
    own = dataclasses.replace(record.trials[0], settings={**record.trials[0].settings, "training.learning_rate": 0.5})
    record = dataclasses.replace(record, trials=[own, *record.trials[1:]])
    shown = shown_study(record, space_of(study), ["score"])
    assert "learning_rate" not in shown.trials[0].params
    assert "slice" in study_figures(study, record)


def test_settings_that_were_drawn_on_a_logarithmic_scale_are_shown_on_one() -> None:
    study, record = synthetic(12)
    figures = study_figures(study, record)
    picture = {axes.get_xlabel(): axes.get_xscale() for axes in figures["slice"].picture.axes[:3]}
    assert picture == {"learning_rate": "log", "rank": "linear", "epochs": "linear"}
    interactive = {axis.title.text: axis.type for axis in figures["slice"].interactive.select_xaxes()}
    assert interactive == {"learning_rate": "log", "rank": "category", "epochs": None}


def test_the_best_so_far_never_gets_worse_and_skips_refused_trials() -> None:
    study, record = synthetic(20, TWO)
    figures = study_figures(study, record)
    for name, objective, worse in (("history", "score", min), ("history-train_seconds", "train_seconds", max)):
        line = figures[name].picture.axes[0].lines[0]
        assert line.get_drawstyle() == "steps-post"
        best = [value for value in line.get_ydata() if math.isfinite(value)]
        good = [row.values[objective] for row in record.trials if row.values and row.feasible]
        assert best[0] == good[0]
        assert best[-1] == (max(good) if worse is min else min(good))
        assert all(worse(one, other) == one for one, other in pairwise(best))


def test_bytes_are_shown_in_their_unit() -> None:
    figures = study_figures(*synthetic(20, THREE))
    for name in ("history-peak_memory_bytes", "slice-peak_memory_bytes"):
        labels = [label.get_text() for label in figures[name].picture.axes[0].get_yticklabels()]
        assert {"2 GiB", "3 GiB"} <= {label.replace(".0", "") for label in labels}


def test_the_trials_on_the_front_are_numbered_where_their_values_put_them() -> None:
    study, record = synthetic(4, TWO)
    values = [(0.5, 10.0), (0.6, 20.0), (0.55, 30.0), (0.9, 90.0)]
    rows = [
        dataclasses.replace(row, state="complete", feasible=True, values=dict(zip(TWO, pair, strict=True)))
        for row, pair in zip(record.trials, values, strict=True)
    ]
    figures = study_figures(study, dataclasses.replace(record, trials=rows))["pareto"]
    axes = figures.picture.axes[0]
    assert {text.get_text(): text.xy for text in axes.texts} == {str(n): values[n] for n in (0, 1, 3)}
    points = {str(kind.get_label()): sorted(map(tuple, kind.get_offsets())) for kind in axes.collections}
    assert points == {"on the front": [values[0], values[1], values[3]], "beaten by another trial": [values[2]]}
    interactive = {trace.name: sorted(zip(trace.x, trace.y, strict=True)) for trace in figures.interactive.data}
    assert {name: found for name, found in interactive.items() if found} == points


def test_finalists_stand_where_dev_and_locked_scores_put_them() -> None:
    study, record = synthetic(6)
    figure = study_figures(study, with_finalists(record))["dev_locked"]
    centres = {bar.get_label(): bar.lines[0].get_xydata()[0].tolist() for bar in figure.picture.axes[0].containers}
    assert centres == {
        "trial 0 (the project's own settings)": pytest.approx([0.61, 0.62]),
        "trial 1 (winner)": pytest.approx([0.73, 0.70]),
    }
    shown = {trace.name: [trace.x[0], trace.y[0]] for trace in figure.interactive.data if trace.mode == "markers"}
    assert shown == {name: pytest.approx(centre) for name, centre in centres.items()}
    bare = [dataclasses.replace(one, locked=()) for one in with_finalists(record).finalists]
    assert "dev_locked" not in study_figures(study, dataclasses.replace(record, finalists=bare))


def alike(trial: int, *, own: bool = False) -> Finalist:
    seeds = {"dev": (0.2, 0.2), "locked": (0.1, 0.1), "values": (7.1, 7.3)}
    return Finalist(trial, f"n{trial}", {}, (1, 2), run_ids=("a", "b"), own=own, **seeds)


def test_the_winner_lies_in_front_of_finalists_of_equal_scores() -> None:
    study, record = synthetic(3)
    record = dataclasses.replace(record, finalists=[alike(1), alike(2), alike(0, own=True)], winner=2)
    figure = study_figures(study, record)["dev_locked"]
    bars = sorted(figure.picture.axes[0].containers, key=lambda bar: bar.lines[0].get_zorder())
    assert bars[-1].lines[0].get_color() == ORANGE
    assert bars[-1].lines[0].get_markersize() < min(bar.lines[0].get_markersize() for bar in bars[:-1])
    said = {text.get_text() for text in figure.picture.legends[0].get_texts()}
    assert said == {"trial 2 (winner)", "trial 1", "trial 0 (the project's own settings)", "dev = locked"}
    assert figure.interactive.data[-1].name == "trial 2 (winner)"


def test_finalists_of_a_study_of_loss_carry_their_loss() -> None:
    study, record = synthetic(3)
    record = dataclasses.replace(record, objectives={"validation/nll": "minimize"}, finalists=[alike(1)], winner=1)
    figure = study_figures(study, record)["dev_locked"]
    assert [bar.get_label() for bar in figure.picture.axes[0].containers] == ["trial 1: 7.2000 (winner)"]
    for heading in (figure.picture.axes[0].get_title(loc="left"), figure.interactive.layout.title.text):
        assert heading == "Scores of the finalists, and their validation/nll"


@pytest.mark.parametrize(
    ("low", "high"), [(1e-4, 8e-3), (1.2e-4, 9e-4), (2e-3, 9e-3), (1e-5, 1e-3), (1e-5, 9e-3), (1e-6, 1e-1), (1.0, 64.0)]
)
def test_labels_of_a_logarithmic_axis_are_several_and_do_not_overlap(low: float, high: float) -> None:
    keys = ("training.learning_rate", "adapter.rank", "training.epochs")
    study, rows = optuna.create_study(direction="maximize"), []
    for n, rate in enumerate((low, math.sqrt(low * high), high)):
        drawn = dict.fromkeys(keys, rate)
        study.add_trial(
            create_trial(
                value=0.5 + n, params=drawn, distributions=dict.fromkeys(keys, FloatDistribution(low, high, log=True))
            )
        )
        rows.append(TrialRow(n, "complete", drawn, {"score": 0.5 + n}, {}, name=str(n)))
    figure = study_figures(study, StudyRecord("s", "p", "r", SCORE, {}, "tpe", "none", 0, rows))["slice"].picture
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes[:3]:
        left, right = axes.get_xlim()
        labels = [
            label
            for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if left <= place <= right and label.get_text()
        ]
        assert len(labels) >= 2
        boxes = [label.get_window_extent() for label in labels]
        assert all(one.x1 < other.x0 for one, other in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_the_page_shows_what_became_of_every_trial_and_the_own_settings() -> None:
    study, record = synthetic(10)
    failed = dataclasses.replace(record.trials[9], state="failed", failure="oom")
    record = dataclasses.replace(record, trials=[*record.trials[:9], failed])
    traces = {trace.name: trace for trace in study_figures(study, record)["history"].interactive.data}
    assert list(traces["pruned"].x) == [4]
    assert list(traces["failed or infeasible"].x) == [9]
    assert set(traces["the project's own settings"].y) == {record.trials[0].values["score"]}


@pytest.mark.parametrize("objectives", [SCORE, TWO])
def test_every_line_of_the_parallel_page_can_be_seen_on_white(objectives: dict[str, str]) -> None:
    figure = study_figures(*synthetic(12, objectives))["parallel"].interactive
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.x[0] is not None]
    colours = {trace.line.color for trace in lines}
    assert len(lines) >= 8
    assert max(min(unlabel_rgb(colour)) for colour in colours) < 200
    (bar,) = [trace for trace in figure.data if trace.marker.colorscale]
    assert max(min(unlabel_rgb(colour)) for _, colour in bar.marker.colorscale) < 200
    assert figure.layout.title.text.startswith("Settings of each trial; the darker, the")


def test_a_setting_that_a_trial_lacks_is_none_in_the_parallel_plot() -> None:
    study, record = synthetic(12)
    figure = study_figures(study, record)["parallel"].picture
    assert "None" in {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}


@pytest.mark.parametrize("trials", [3, 12])
def test_whole_numbers_are_marked_on_the_parallel_axis_of_a_whole_setting(trials: int) -> None:
    page, picture = study_figures(*synthetic(trials))["parallel"]
    place = list(page.layout.xaxis.ticktext).index("epochs")
    marks = {one.text: one.y for one in page.layout.annotations if one.x == place}
    assert [label.get_text() for label in picture.axes[1 + place].get_yticklabels()] == list(marks)
    assert set(marks) - {"None"} == {"2", "3", "4"} | ({"1"} if trials == 12 else set())
    drawn = {line.customdata[place][1]: line.y[place] for line in page.data if line.customdata is not None}
    assert all(marks[text] == pytest.approx(y) for text, y in drawn.items()), "where the lines pass"


def test_the_best_so_far_goes_on_to_a_last_trial_that_was_pruned() -> None:
    study, record = synthetic(20)
    page, picture = study_figures(study, record)["history"]
    (best,) = [trace for trace in page.data if trace.name == "best so far"]
    assert record.trials[-1].state == "pruned"
    assert picture.axes[0].get_xlim()[1] > 19
    assert best.x[-1] == picture.axes[0].lines[0].get_xdata()[-1] == 19
    assert best.y[-1] == picture.axes[0].lines[0].get_ydata()[-1] == best.y[-2]


def test_only_trials_that_break_a_constraint_are_drawn_as_infeasible() -> None:
    study, record = synthetic(12)
    figures = study_figures(study, record)
    (lines,) = figures["parallel"].picture.axes[0].collections
    complete = [row for row in record.trials if row.values]
    dotted = sum(style[1] is not None for style in lines.get_linestyles())
    assert dotted == sum(not row.feasible for row in complete) > 0
    (refused,) = [trace for trace in figures["history"].interactive.data if trace.name == "constraint not met"]
    assert list(refused.x) == [row.number for row in complete if not row.feasible]


def test_a_study_that_searched_nothing_has_no_figure_of_settings() -> None:
    _, record = synthetic(4)
    assert set(study_figures(optuna.create_study(direction="maximize"), record)) == {"history"}


def test_pyplot_is_left_as_it_was() -> None:
    before = dict(mpl.rcParams), mpl.get_backend()
    study_figures(*synthetic(12))
    assert plt.get_fignums() == []
    assert (dict(mpl.rcParams), mpl.get_backend()) == before


# ---- their pages


class Loads(HTMLParser):
    """Collects what a page would fetch: any src, and any href of a link."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        names = ("src", "href", "data", "srcset") if tag != "a" else ()
        self.fetched += [f"{tag} {value}" for name, value in attrs if name in names]


def test_a_page_fetches_nothing_and_sends_nothing() -> None:
    figures = study_figures(*synthetic(12))
    for page in (study_page({"history": figures["history"]}, "s"), study_page(figures, "study <s>")):
        reader = Loads()
        reader.feed(page)
        assert reader.scripts > 0
        assert reader.fetched == []
        # The button "Share chart..." would send the figure, with every setting in it, to plotly's server.
        assert page.count('"showSendToCloud": false') == page.count("Plotly.newPlot(") - _own_uses()
    assert "study &lt;s&gt;" in study_page(figures, "study <s>")


def _own_uses() -> int:
    """How often plotly's own code holds the words that a figure is begun with."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().count("Plotly.newPlot(")


def test_the_page_of_all_figures_holds_plotly_once() -> None:
    figures = study_figures(*synthetic(12))
    assert len(figures) >= 4
    page = study_page(figures, "s")
    assert page.count("* plotly.js v") == 1
    assert len(page) < 1.2 * len(study_page({"history": figures["history"]}, "s"))


def test_optunas_own_verbosity_is_left_as_it_was() -> None:
    study, record = synthetic(3)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study_figures(study, record)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


def test_axes_of_scores_end_at_one_and_trials_are_counted_in_whole_numbers() -> None:
    study, record = synthetic(3)
    rows = [dataclasses.replace(row, values={"score": 1.0 - row.number / 50}) for row in record.trials]
    figures = study_figures(study, dataclasses.replace(record, trials=rows))
    for name in ("history", "slice"):
        page, picture = figures[name]
        assert page.layout.yaxis.range[1] == 1.0
        assert picture.axes[0].get_ylim()[1] == 1.0
    assert figures["history"].interactive.layout.xaxis.dtick == 1
    assert figures["slice"].interactive.data[0].marker.colorbar.dtick == 1


def test_one_trial_has_no_scale_of_trials_and_one_setting_no_bar() -> None:
    study, record = synthetic(1)
    assert study_figures(study, record)["slice"].interactive.data[0].marker.showscale is False
    study = optuna.create_study(direction="maximize")
    for number in range(8):
        study.add_trial(
            create_trial(value=number / 10, params={"a.b": number / 10}, distributions={"a.b": FloatDistribution(0, 1)})
        )
    trials = [TrialRow(n, "complete", {"a.b": n / 10}, {"score": n / 10}, {}, name=str(n)) for n in range(8)]
    assert "importances" not in study_figures(study, dataclasses.replace(record, trials=trials))
