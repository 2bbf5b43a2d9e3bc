"""A study's page, tables and facts, from a record worked out by hand."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from scipy import stats

from tunery.records.scores import Difference
from tunery.records.studies import Finalist, StudyRecord, TrialRow
from tunery.reporting.text import code, duration, short_names, shown
from tunery.search.report.facts import best_first, pareto, spread_factors
from tunery.search.report.loss_and_score import MOST_GROUPS, loss_groups, sentences
from tunery.search.report.markdown import study_report
from tunery.search.report.tables import finalists_table, study_table, trials_table
from tunery.search.report.verdict import study_verdict

GOLDEN = Path(__file__).parents[3] / "golden"
OWN = {"training.learning_rate": 2e-4, "adapter.rank": 16}


def trial(number: int, score: float | None, **facts: Any) -> TrialRow:
    """A complete trial, or with no score one that ended as `facts` say."""
    settings = {"training.learning_rate": 1e-4 * (number + 1), "adapter.rank": 8 * (number + 1)}
    values = {} if score is None else {"score": score}
    row = TrialRow(
        number, "complete", OWN if number == 0 else settings, values, {**values, "peak_memory_bytes": 2.0**30 * number},
        run_id=f"run{number}", seconds=10.0 * (number + 1),
        name="as declared" if number == 0 else f"learning_rate={1e-4 * (number + 1):.3g}, rank={8 * (number + 1)}",
    )  # fmt: skip
    return dataclasses.replace(row, **facts)


def finalist(number: int, dev: tuple[float, ...], locked: tuple[float, ...], own: bool = False) -> Finalist:
    row = trial(number, 0.0)
    runs = tuple(f"run{number}-{seed}" for seed in (1, 2, 3))
    return Finalist(number, row.name, row.settings, (1, 2, 3), dev, locked, runs, own, values=dev)


@pytest.fixture
def study() -> StudyRecord:
    return StudyRecord(
        name="quickstart", project="quickstart", run_id="parent", objectives={"score": "maximize"},
        constraints={"peak_memory_bytes": "<= 4 GiB"}, sampler="tpe", pruner="hyperband", seed=0,
        trials=[
            trial(0, 0.6), trial(1, 0.75), trial(2, 0.7), trial(3, None, state="pruned", seconds=5.0),
            trial(4, None, state="pruned", failure="oom", reason="out of memory:\ntried to | allocate 2 GiB"),
            trial(5, 0.9, feasible=False), trial(6, None, state="failed", failure="killed", attempts=3),
            trial(7, None, state="pruned", failure="infeasible", seconds=0.0),
        ],
        finalists=[
            finalist(1, (0.70, 0.72, 0.71), (0.66, 0.68, 0.67)), finalist(2, (0.69, 0.70, 0.71), (0.68, 0.69, 0.67)),
            finalist(0, (0.60, 0.61, 0.62), (0.58, 0.60, 0.62), own=True),
        ],
        winner=1, base_dev=0.31, base_locked=0.30, over_base=Difference(0.37, 0.30, 0.44, 1e-9),
        over_own=Difference(0.07, 0.02, 0.12, 0.012), model_version="quickstart/3", seconds=260.0,
        notes=("data/facts.jsonl changed.",),
    )  # fmt: skip


def printed(renderable: RenderableType, width: int = 100) -> str:
    page = io.StringIO()
    Console(file=page, width=width).print(renderable)
    return page.getvalue()


def test_the_study_report_is_the_golden_one(study: StudyRecord) -> None:
    page = study_report(study, lambda run_id: f"#/experiments/7/runs/{run_id}", lambda version: f"#/models/{version}")
    assert page == (GOLDEN / "study_report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("untried", "said", "trials"),
    [(0, "Every point of the grid was tried", None), (4, "here 4 more", 12), (99, "here 10 more", 18)],
)
def test_no_more_trials_are_advised_than_a_grid_has(
    study: StudyRecord, untried: int, said: str, trials: int | None
) -> None:
    page = study_report(dataclasses.replace(study, sampler="grid", untried=untried))
    assert said in page
    assert ("--trials" in page) == (trials is not None)
    assert trials is None or f"--trials {trials}\n" in page


def test_the_study_tables_are_the_golden_ones(study: StudyRecord) -> None:
    finalists = finalists_table(study)
    assert finalists is not None
    assert printed(study_table(study)) + printed(finalists) == (GOLDEN / "study_tables.txt").read_text(encoding="utf-8")


# ---- loss and score


def measured(losses: list[float], scores: list[float], loss_on: str = "completion") -> list[TrialRow]:
    """Complete trials with a validation loss and a score each."""
    pairs = enumerate(zip(losses, scores, strict=True))
    rows = [trial(number, score, metrics={"score": score, "validation/nll": loss}) for number, (loss, score) in pairs]
    return [dataclasses.replace(row, settings={**row.settings, "training.loss_on": loss_on}) for row in rows]


def test_whether_loss_tells_the_score_is_said_of_all_trials(study: StudyRecord) -> None:
    rows = measured([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    page = study_report(dataclasses.replace(study, trials=rows, finalists=(), winner=None))
    assert (
        "- Spearman's rank correlation of validation loss and score over 6 trials is -1.00 (permutation p = 0.003): "
        "less loss went with a better score: to judge by loss was to judge by score, in tendency. The trial of least "
        "loss scores 0.9000 on dev items, the best of them 0.9000.\n"
    ) in page
    assert "## Validation loss and score" not in study_report(study), "no trial has a loss"


def test_losses_over_other_tokens_are_not_ranked_together(study: StudyRecord) -> None:
    every = measured([0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.6, 0.7, 0.8, 0.9], "all")
    some = [dataclasses.replace(row, number=5 + row.number) for row in measured([1.1, 1.2], [0.9, 0.8])]
    record = dataclasses.replace(study, trials=[*every, *some], loss_settings=("training.loss_on",))
    first, second = loss_groups(record)
    assert [row.number for row in first.trials] == [0, 1, 2, 3, 4]
    assert (first.name, first.correlation.rho) == ("loss_on=all", pytest.approx(1.0))
    assert (second.name, second.correlation.count) == ("loss_on=completion", 2)
    told = list(sentences(record))
    assert "`loss_on=all`: " in told[0]
    assert "judged against the score" in told[0]
    assert "`loss_on=completion`: Validation loss and score of 2 trials: too few for a rank correlation." in told[1]


def test_trials_that_share_their_tokens_with_no_other_are_counted(study: StudyRecord) -> None:
    rows = [dataclasses.replace(row, settings={"data.max_length": n}) for n, row in enumerate(measured([1, 2], [1, 2]))]
    told = list(sentences(dataclasses.replace(study, trials=rows, loss_settings=("data.max_length",))))
    assert told == ["2 trials left out: `max_length` changes what the loss is a mean of."]


def test_of_many_groups_the_largest_are_told_and_no_trial_is_said_to_be_alone(study: StudyRecord) -> None:
    """The last one shares its tokens with no other, and it alone."""
    rows = measured([1.0] * 23, [0.5] * 23)
    lengths = [*(128 + number // 2 for number in range(22)), 64]  # eleven pairs, and one
    rows = [dataclasses.replace(row, settings={"data.max_length": n}) for row, n in zip(rows, lengths, strict=True)]
    record = dataclasses.replace(study, trials=rows, loss_settings=("data.max_length",))
    assert len(loss_groups(record)) == 11
    *told, smaller, alone = sentences(record)
    assert len(told) == MOST_GROUPS
    assert smaller == "3 smaller groups of 6 trials in all: not shown."
    assert alone.startswith("1 trial left out: `max_length` changes")


# ---- the verdict


def test_when_the_own_settings_win_the_report_says_that_nothing_beat_them(study: StudyRecord) -> None:
    page = study_report(dataclasses.replace(study, winner=0, over_own=None, over_base=Difference(0.3, 0.2, 0.4, 1e-6)))
    assert "**No configuration beat the project's own settings.** They score 0.6100 on dev items" in page


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (
            Difference(-0.01, -0.05, 0.03, 0.6),
            "won on dev items, but does not score better than the project's own settings",
        ),
        (
            Difference(0.01, -0.03, 0.05, 0.6),
            "won, but its gain in score over the project's own settings may be chance",
        ),
        (Difference(0.07, 0.02, 0.12, 0.01), "won and scores better than the project's own settings"),
    ],
)
def test_a_gain_is_called_what_it_is(study: StudyRecord, gain: Difference, said: str) -> None:
    assert said in study_verdict(dataclasses.replace(study, over_own=gain))


def test_a_study_that_trains_on_from_an_adapter_says_what_it_gained_over_it(study: StudyRecord) -> None:
    over = Difference(0.05, 0.01, 0.09, 0.02)
    known = dataclasses.replace(study, start="models:/facts/2", parent_dev=0.64, parent_locked=0.62, over_parent=over)
    page = study_report(known)
    assert "; +0.0500 (95% interval +0.0100 to +0.0900, p = 0.020) over the parent, `models:/facts/2`; +0.0700" in page
    assert "| | | the parent | – | 0.6400 | 0.6200 | +0.0200 | |" in page
    assert re.search(r"the parent +0\.640 +0\.620 +\+0\.020", printed(finalists_table(known) or ""))
    assert "parent" not in study_report(study)


def test_without_finalists_the_best_trial_stands_beside_the_parent(study: StudyRecord) -> None:
    rows = [dataclasses.replace(row, metrics={**row.metrics, "over_parent/score": 0.11}) for row in study.trials]
    known = dataclasses.replace(study, trials=rows, finalists=(), winner=None, start="models:/facts/2", parent_dev=0.64)
    assert (
        "Over the parent, `models:/facts/2`, which scores 0.6400 on dev items, that is a gain in score of +0.1100. "
        "There is no winner"
    ) in study_verdict(known)


def test_without_finalists_the_best_score_is_called_optimistic(study: StudyRecord) -> None:
    page = study_report(dataclasses.replace(study, finalists=(), winner=None, model_version=None))
    assert (
        "**Best so far: trial 1 (`learning_rate=0.0002, rank=16`).** Its `score` is 0.7500, which is optimistic" in page
    )
    assert "no locked score" in page
    assert "## Finalists" not in page
    assert "tunery evaluate" not in page


def test_finalists_without_locked_scores_are_shown_as_unfinished(study: StudyRecord) -> None:
    bare = [dataclasses.replace(one, locked=()) for one in study.finalists]
    page = study_report(dataclasses.replace(study, finalists=bare, over_base=None, over_own=None, base_locked=None))
    assert "Locked items have not been scored" in page
    assert "| 0.7100 ± 0.0100 | – | – |" in page


def test_a_study_in_which_nothing_is_complete_says_so(study: StudyRecord) -> None:
    failed = [row for row in study.trials if row.state != "complete"]
    page = study_report(dataclasses.replace(study, trials=failed, finalists=(), winner=None))
    assert "**None of 4 trials is complete: there is nothing to choose from.**" in page
    assert "on dev items" not in page


def test_a_study_whose_every_trial_breaks_a_constraint_has_no_best_one(study: StudyRecord) -> None:
    refused = [dataclasses.replace(row, feasible=False) for row in study.trials]
    page = study_report(dataclasses.replace(study, trials=refused, finalists=(), winner=None))
    assert "None of 4 complete trials meets every constraint" in page
    assert pareto(dataclasses.replace(study, trials=refused)) == []


def test_one_seed_has_no_spread(study: StudyRecord) -> None:
    single = [
        dataclasses.replace(one, seeds=(1,), dev=one.dev[:1], locked=one.locked[:1], values=one.dev[:1])
        for one in study.finalists
    ]
    page = study_report(dataclasses.replace(study, finalists=single))
    assert "| 0.7000 | 0.6600 | +0.0400 |" in page
    assert "One seed says nothing about the spread" in page


def test_a_name_cannot_break_out_of_its_cell(study: StudyRecord) -> None:
    odd = dataclasses.replace(study.trials[1], name="model=<b>a|b</b>`\nnext")
    page = study_report(dataclasses.replace(study, trials=[study.trials[0], odd, study.trials[2]]))
    assert "| `model=<b>a\\|b</b>' next` |" in page
    assert printed(study_table(dataclasses.replace(study, trials=[dataclasses.replace(odd, name="x=[/red]")])))


def test_a_trial_is_linked_only_where_it_has_a_run(study: StudyRecord) -> None:
    bare = [dataclasses.replace(row, run_id=None) for row in study.trials]
    page = study_report(dataclasses.replace(study, trials=bare, finalists=(), winner=None), lambda run: f"#/{run}")
    assert "](#" not in page


# ---- what the winner was chosen by, where that is not the score


@pytest.fixture
def by_loss(study: StudyRecord) -> StudyRecord:
    """Trial 1 has the least loss, and a worse score on dev items than the project's own settings."""

    def with_loss(row: TrialRow, loss: float) -> TrialRow:
        return dataclasses.replace(row, values={"validation/nll": loss}, metrics={"score": 0.4, "validation/nll": loss})

    entered = [
        dataclasses.replace(finalist(2, (0.39, 0.39, 0.39), (0.20, 0.21, 0.22)), values=(7.2, 7.3, 7.4)),
        dataclasses.replace(finalist(1, (0.40, 0.41, 0.42), (0.13, 0.14, 0.15)), values=(6.9, 7.0, 7.1)),
        dataclasses.replace(finalist(0, (0.45, 0.46, 0.47), (0.11, 0.11, 0.11), own=True), values=(8.9, 8.9, 8.9)),
    ]
    return dataclasses.replace(
        study, objectives={"validation/nll": "minimize"}, constraints={}, finalists=entered,
        trials=[with_loss(trial(n, 0.4), loss) for n, loss in enumerate((8.8, 7.1, 7.0))],
        over_own=Difference(0.03, -0.15, 0.21, 0.9),
    )  # fmt: skip


def test_a_study_of_loss_tells_the_loss_of_its_finalists_beside_their_scores(by_loss: StudyRecord) -> None:
    table = study_report(by_loss).split("## Finalists")[1].split("\n\n")[1].splitlines()
    assert "validation/nll in the search | validation/nll, mean ± sd | dev score, mean ± sd | locked" in table[0]
    assert "| 7.1000 | 7.0000 ± 0.1000 | 0.4100 ± 0.0100 | 0.1400 ± 0.0100 |" in table[2]
    assert table[2].startswith("| **won** | 1 |")
    assert "| the base model | – | – | 0.3100 | 0.3000 |" in table[5]
    shown_there = printed(finalists_table(by_loss) or "")
    assert "7.0000 ± 0.1000" in shown_there
    assert "validation/nll" in shown_there


def test_a_study_of_loss_says_what_its_winner_was_chosen_by_and_who_scores_better(by_loss: StudyRecord) -> None:
    page = study_report(by_loss)
    assert "won by `validation/nll`, but its gain in score over the project's own settings may be chance" in page
    assert (
        "Its `validation/nll` on validation rows is 7.0000 (mean of 3 seeds), against 8.9000 with the project's own "
        "settings."
    ) in page
    assert (
        "Others score better: on dev items the project's own settings (0.4600), on locked items trial 2 (0.2100); the "
        "winner was chosen by `validation/nll`."
    ) in page
    assert "chosen by the mean of `validation/nll` on validation rows, over seeds that the search never used." in page
    assert "no objective is measured on dev items" in page
    assert "by `validation/nll` on validation rows\n" in page
    assert "dev means" not in page


def test_a_study_without_tasks_speaks_of_no_score(by_loss: StudyRecord) -> None:
    bare = [dataclasses.replace(one, dev=(), locked=()) for one in by_loss.finalists]
    rows = [dataclasses.replace(row, metrics=row.values) for row in by_loss.trials]
    record = dataclasses.replace(
        by_loss, trials=rows, finalists=bare, over_own=None, over_base=None, base_dev=None, base_locked=None
    )
    page = study_report(record)
    assert "won by `validation/nll` on validation rows.** Its `validation/nll`" in page
    assert "No task is scored" in page
    assert "locked" not in page
    assert "gap" not in page
    assert "dev" not in page.replace("dev/", "")
    assert "locked" not in printed(finalists_table(record) or "")


def test_nobody_who_scores_the_same_is_said_to_score_better(study: StudyRecord) -> None:
    same = [dataclasses.replace(one, dev=(0.7,) * 3, locked=(0.6,) * 3) for one in study.finalists]
    assert "score better" not in study_report(dataclasses.replace(study, finalists=same))


def test_a_better_score_that_could_not_win_is_named_as_that(study: StudyRecord) -> None:
    refused = dataclasses.replace(study.finalists[1], dev=(0.9,) * 3, locked=(0.1,) * 3, refused="1 of 3 seeds failed")
    page = study_report(dataclasses.replace(study, finalists=[study.finalists[0], refused]))
    assert "Others score better: on dev items trial 2, which could not win, (0.9000)." in page


def test_the_further_objectives_of_finalists_are_told_in_their_unit(study: StudyRecord) -> None:
    timed = [dataclasses.replace(one, further={"train_seconds": (60.0, 64.0, 62.0)}) for one in study.finalists]
    record = dataclasses.replace(study, objectives={"score": "maximize", "train_seconds": "minimize"}, finalists=timed)
    page = study_report(record)
    assert "| train_seconds, mean ± sd |" in page
    assert "| 1 min 02 s ± 2.0 s |" in page
    assert "between equal means, `train_seconds` decides" in page


# ---- trials


def two_objectives(study: StudyRecord, points: list[tuple[float, float]]) -> StudyRecord:
    rows = [
        dataclasses.replace(trial(n, 0.0), values={"score": score, "train_seconds": seconds})
        for n, (score, seconds) in enumerate(points)
    ]
    return dataclasses.replace(
        study, objectives={"score": "maximize", "train_seconds": "minimize"}, trials=rows, finalists=(), winner=None
    )


def test_the_pareto_front_of_five_trials_worked_out_by_hand(study: StudyRecord) -> None:
    points = [(0.5, 10.0), (0.6, 20.0), (0.6, 30.0), (0.9, 90.0), (0.4, 10.0)]
    several = two_objectives(study, points)
    assert [row.number for row in pareto(several)] == [3, 1, 0]
    page = study_report(several)
    front = page.split("## Pareto front")[1].split("##")[0]
    assert re.findall(r"^\| (\d+) \|", front, re.MULTILINE) == ["3", "1", "0"]


def test_equal_trials_stand_in_the_order_of_the_next_objective(study: StudyRecord) -> None:
    several = two_objectives(study, [(0.2, 33.0), (0.2, 45.0), (0.2, 21.0), (0.1, 1.0)])
    assert [row.number for row in best_first(several)] == [2, 0, 1, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_pareto_front_is_what_no_trial_beats(points: list[tuple[int, int]]) -> None:
    record = two_objectives(
        StudyRecord("s", "p", "r", {}, {}, "tpe", "none", 0, []), [(float(a), float(b)) for a, b in points]
    )
    beaten = {
        n
        for n, (score, seconds) in enumerate(points)
        for other_score, other_seconds in points
        if other_score >= score and other_seconds <= seconds and (other_score, other_seconds) != (score, seconds)
    }
    assert {row.number for row in pareto(record)} == set(range(len(points))) - beaten


def test_the_best_trial_comes_first_whatever_the_direction(study: StudyRecord) -> None:
    rows = [trial(0, 0.6), trial(1, 0.7), trial(2, 0.9, feasible=False)]
    for direction, order in (("maximize", [1, 0, 2]), ("minimize", [0, 1, 2])):
        record = dataclasses.replace(study, objectives={"score": direction}, trials=rows)
        assert [row.number for row in best_first(record)] == order


def test_a_value_that_is_no_number_is_not_a_complete_trial(study: StudyRecord) -> None:
    record = dataclasses.replace(study, trials=[trial(0, math.nan), trial(1, 0.5)])
    assert [row.number for row in best_first(record)] == [1]


def test_the_trials_table_has_a_row_a_trial_with_whole_keys(study: StudyRecord) -> None:
    rows = [*study.trials, trial(9, 0.1, settings={"adapter.method": "dora", "adapter.target_modules": ["q", "v"]})]
    frame = trials_table(dataclasses.replace(study, trials=rows))
    assert list(frame["number"]) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert frame.loc[1, "training.learning_rate"] == pytest.approx(2e-4)
    assert frame["score"].isna().sum() == 4
    assert frame.loc[8, "adapter.target_modules"] == "['q', 'v']"
    assert frame["adapter.rank"].isna().sum() == 1
    assert frame.loc[4, "failure"] == "oom"


def test_an_empty_study_is_a_table_with_its_columns(study: StudyRecord) -> None:
    frame = trials_table(dataclasses.replace(study, trials=[]))
    assert len(frame) == 0
    assert {"number", "state", "score", "run_id"} <= set(frame.columns)


def test_a_narrow_terminal_cuts_no_number_away(study: StudyRecord) -> None:
    long = [dataclasses.replace(row, name=", ".join([row.name] * 4)) for row in study.trials]
    for width in (80, 120):
        page = printed(study_table(dataclasses.replace(study, trials=long)), width)
        assert all(len(line) <= width for line in page.splitlines())
        assert {"0.7500", "0.7000", "0.6000"} <= set(page.split())


def test_finalists_stand_in_order_of_their_dev_means(study: StudyRecord) -> None:
    turned = dataclasses.replace(study, finalists=list(reversed(study.finalists)))
    assert study_report(turned) == study_report(study)


# ---- words


def test_the_spread_factors_are_those_of_the_chi_square_distribution() -> None:
    low, high = spread_factors(3)
    assert stats.chi2.cdf(2 / low**2, 2) == pytest.approx(0.975)
    assert stats.chi2.cdf(2 / high**2, 2) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.96, "1 min 00 s"),
        (260, "4 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (4 * 86400 + 7200, "4 d 2 h"),
        (None, "–"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_a_metric_is_shown_in_the_unit_of_its_name() -> None:
    assert shown("peak_memory_bytes", 1.5 * 2**30) == "1.50 GiB"
    assert shown("model_bytes", 900) == "900 B"
    assert shown("train_seconds", 90.0) == "1 min 30 s"
    assert shown("trainable_parameters", 1234567) == "1,234,567"
    assert shown("delta/score", 0.01) == "+0.0100"
    assert shown("score", None) == "–"


def test_keys_are_shortened_until_they_would_be_mistaken_for_each_other() -> None:
    keys = ["adapter.rank", "data.train.0.weight", "data.train.1.weight", "training.scheduler"]
    assert list(short_names(keys).values()) == ["rank", "0.weight", "1.weight", "scheduler"]
    assert short_names(["rank", "adapter.rank"]) == {"rank": "rank", "adapter.rank": "adapter.rank"}


def test_code_holds_what_markdown_would_read() -> None:
    assert code("a `b`\n*c*") == "`a 'b' *c*`"
