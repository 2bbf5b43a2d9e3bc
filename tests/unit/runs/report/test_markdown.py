"""A run's page, tables and pictures."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.runs.conftest import task_result

from tunery.records.runs import ContextFacts, RunRecord, StepMetrics
from tunery.records.scores import TaskResult
from tunery.runs.report.markdown import run_report, with_error
from tunery.runs.report.plots import loss_plot, score_against_loss_plot, scores_plot, series
from tunery.runs.report.tables import run_table
from tunery.statistics.paired import compare_tasks

GOLDEN = Path(__file__).parents[3] / "golden"


def test_the_report_is_the_golden_one(record: RunRecord) -> None:
    assert run_report(record) == (GOLDEN / "run_report.md").read_text(encoding="utf-8")


def test_an_overlap_that_was_not_looked_for_is_not_counted_as_none(record: RunRecord) -> None:
    assert record.data is not None
    page = run_report(dataclasses.replace(record, data=dataclasses.replace(record.data, not_compared="it is off")))
    assert "overlap with evaluation items was not looked for: it is off." in page
    assert "rows overlap with" not in page


def test_the_terminal_table_is_the_golden_one(record: RunRecord) -> None:
    page = io.StringIO()
    Console(file=page, width=100).print(run_table(record))
    assert page.getvalue() == (GOLDEN / "run_table.txt").read_text(encoding="utf-8")


def test_a_checkpoint_chosen_on_dev_items_is_reported_on_locked_ones(record: RunRecord) -> None:
    page = run_report(dataclasses.replace(record, split="locked"))
    assert "| world_facts | acc | 20 |" in page
    assert "so the table shows only locked items" in page


def test_a_task_that_does_not_count_is_shown_as_such(record: RunRecord) -> None:
    other = dataclasses.replace(record, primary={}, asked={"world_facts": "acc"})
    assert "| world_facts (not in the score) | acc | 40 |" in run_report(other)


def test_a_model_without_an_adapter_shows_its_own_scores(record: RunRecord) -> None:
    alone = dataclasses.replace(record, tuned={}, trained=None, data=None, adapter=None)
    assert "**Scores: world_facts 0.250. The model has no adapter" in run_report(alone)
    page = io.StringIO()
    Console(file=page, width=100).print(run_table(alone))
    assert "0.2500 ± 0.0685" in page.getvalue()


def test_a_run_in_context_shows_its_examples_and_nothing_of_a_training(record: RunRecord) -> None:
    context = ContextFacts(("facts.jsonl:3", "facts.jsonl:9"), {"yes": 2, "no": 2}, 1048, "...")
    shown = dataclasses.replace(record, trained=None, adapter=None, model_version=None, context=context)
    page, table = run_report(shown), io.StringIO()
    assert "| base | in context | majority |" in page
    assert "2 solved examples, 1,048 tokens in all, stand before every item" in page
    assert "Their answers: 'no' 2 times, 'yes' 2 times." in page
    assert "Rows, in the order in which they are shown: facts.jsonl:3, facts.jsonl:9." in page
    assert "## Training" not in page
    assert "## Use it" not in page
    assert "tuned" not in page
    assert "learned" not in page
    Console(file=table, width=120).print(run_table(shown))
    assert "in context" in table.getvalue()
    none = dataclasses.replace(shown, context=dataclasses.replace(context, origins=(), answers={}))
    assert "these are the base's own answers" in run_report(none)


def flipped(result: TaskResult) -> TaskResult:
    """The same items, each answered with "no" but for one."""
    logs = [[-1.0, -2.0]] + [[-2.0, -1.0]] * (len(result.samples) - 1)
    right = ["yes", *["no"] * (len(logs) - 1)]
    acc = (result.samples["target"] == right).astype(float)
    score = dataclasses.replace(result.scores["acc"], value=float(acc.mean()))
    return dataclasses.replace(
        result, samples=result.samples.assign(acc=acc, loglikelihoods=logs), scores={"acc": score}
    )


def test_a_model_that_gives_one_answer_is_named_before_its_score(record: RunRecord) -> None:
    changed = dataclasses.replace(record, tuned={"world_facts": flipped(record.tuned["world_facts"])})
    told = (
        "world_facts: the tuned model answers 'no' to 39 of 40 items and scores 0.525, where always 'no' scores 0.500"
    )
    page = run_report(changed)
    assert page.index(told) < page.index("## Scores")
    assert "| world_facts | `0.500 (no)` | `no 20, yes 20` | `no 39, yes 1` | 19 of 40 |" in page
    screen = io.StringIO()
    Console(file=screen, width=200).print(run_table(changed))
    assert told in screen.getvalue()


def test_a_model_that_answers_every_item_as_its_base_is_named_before_its_score(record: RunRecord) -> None:
    same = dataclasses.replace(record, tuned=record.base)
    told = "world_facts: 0 of 40 answers changed: the tuned model answers every item as the base does."
    page = run_report(same)
    assert page.index(f"> {told}") < page.index("## Scores")
    screen = io.StringIO()
    Console(file=screen, width=200).print(run_table(same))
    assert told in screen.getvalue()
    assert "answers changed" not in run_report(record)


def test_a_bare_model_that_gives_one_answer_is_named_too(record: RunRecord) -> None:
    one = {"world_facts": flipped(record.base["world_facts"])}
    page = run_report(dataclasses.replace(record, base=one, tuned={}, trained=None, data=None, adapter=None))
    assert "> world_facts: the model answers 'no' to 39 of 40 items" in page
    assert "| world_facts | `0.500 (no)` | `no 39, yes 1` |\n" in page


def test_the_majority_is_of_the_items_that_the_headline_counts(record: RunRecord) -> None:
    page = run_report(dataclasses.replace(record, split="locked"))  # every locked item is a "yes"
    assert "`1.000 (yes)`" in page


def test_a_first_step_that_moved_nothing_is_said(record: RunRecord) -> None:
    assert record.trained is not None
    for rate, told in ((0.0, True), (1e-4, False)):
        history = [StepMetrics(1, {"train/learning_rate": rate}), *record.trained.history]
        page = run_report(dataclasses.replace(record, trained=dataclasses.replace(record.trained, history=history)))
        assert ("Step 1 moved nothing" in page) == told


@pytest.mark.parametrize(
    ("metric", "chat", "told"), [("acc_norm", True, True), ("acc_norm", False, False), ("acc", True, False)]
)
def test_white_space_that_counts_in_acc_norm_is_said_where_it_may(
    record: RunRecord, metric: str, chat: bool, told: bool
) -> None:
    def asked(result: TaskResult) -> TaskResult:
        scores = {metric: dataclasses.replace(result.scores["acc"], metric=metric)}
        settings = dataclasses.replace(result.settings, chat_template=chat)
        samples = result.samples.rename(columns={"acc": metric})
        return dataclasses.replace(result, settings=settings, scores=scores, samples=samples)

    base, tuned = ({"world_facts": asked(side["world_facts"])} for side in (record.base, record.tuned))
    page = run_report(dataclasses.replace(record, primary={"world_facts": metric}, base=base, tuned=tuned))
    assert ("counts as part of every option" in page) == told


def test_a_run_without_scores_says_so(record: RunRecord) -> None:
    page = run_report(dataclasses.replace(record, base={}, tuned={}, primary={}))
    assert "**Nothing was scored.**" in page
    assert "## Scores" not in page


def test_a_missing_error_is_left_out_rather_than_zero(record: RunRecord) -> None:
    result = record.tuned["world_facts"]
    bare = dataclasses.replace(result, scores={"acc": dataclasses.replace(result.scores["acc"], stderr=None)})
    assert with_error(bare, "acc") == "0.8000"
    assert with_error(result, "acc") == "0.8000 ± 0.0641"
    alike = dataclasses.replace(
        result, scores={"acc": dataclasses.replace(result.scores["acc"], value=1.0, stderr=0.0)}
    )
    assert with_error(alike, "acc") == "1.0000", "equal answers do not prove that the next one is equal"


def test_the_running_mean_lies_on_a_falling_loss() -> None:
    history = [StepMetrics(step, {"train/loss": 10.0 - 0.1 * step}) for step in range(1, 41)]
    losses, mean = loss_plot(history, 40).axes[0].lines[:2]
    inside = slice(5, 35)  # near the ends there are points on one side alone
    assert mean.get_ydata()[inside] == pytest.approx(losses.get_ydata()[inside])


def test_the_loss_plot_shows_both_losses(record: RunRecord) -> None:
    assert record.trained is not None
    labels = {line.get_label() for line in loss_plot(record.trained.history, 40).axes[0].lines}
    assert {"train/loss", "validation/nll", "kept: step 40"} <= labels


def test_checkpoint_scores_are_plotted_only_when_there_are_some(record: RunRecord) -> None:
    assert record.trained is not None
    figure = score_against_loss_plot(record.trained.history)
    assert figure is not None
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([0.425, 0.55, 0.8])
    assert score_against_loss_plot([]) is None


def test_the_correlation_of_loss_and_score_over_checkpoints_is_told_and_drawn(record: RunRecord) -> None:
    assert record.trained is not None
    values = [(1.0, 0.4), (0.8, 0.5), (0.6, 0.6), (0.7, 0.55), (0.5, 0.7), (0.4, 0.8)]
    history = [
        StepMetrics(10 * n, {"validation/nll": loss, "validation/score": score})
        for n, (loss, score) in enumerate(values, start=1)
    ]
    page = run_report(dataclasses.replace(record, trained=dataclasses.replace(record.trained, history=history)))
    assert "- Spearman's rank correlation of validation loss and score over 6 checkpoints is -1.00" in page
    figure = score_against_loss_plot(history)
    assert figure is not None
    assert "n = 6, Spearman's rho -1.00, p = 0.003" in figure.axes[0].get_title("left")


def test_the_scores_plot_has_a_row_a_task(record: RunRecord) -> None:
    pairs = compare_tasks(record.base, record.tuned, record.primary)
    figure = scores_plot(pairs)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["world_facts\nacc"]
    assert scores_plot([]) is None


def test_a_series_skips_steps_without_the_metric(record: RunRecord) -> None:
    assert record.trained is not None
    assert series(record.trained.history, "validation/nll")[0] == [10, 20, 40]


def test_prompts_that_were_cut_are_told_on_the_page_and_in_the_terminal(record: RunRecord) -> None:
    result = record.tuned["world_facts"]
    cut = [12, *[0] * (len(result.samples) - 1)]
    shots = dataclasses.replace(result.settings, few_shot=5)
    longer = dataclasses.replace(result, samples=result.samples.assign(cut_tokens=cut), settings=shots)
    told = dataclasses.replace(record, tuned={**record.tuned, "world_facts": longer})
    said = (
        "world_facts: 1 of 40 prompts are longer than the model takes and were cut at the beginning, by up to 12 "
        "tokens: not all of the 5 examples were seen."
    )
    assert said in run_report(told)
    page = io.StringIO()
    Console(file=page, width=200).print(run_table(told))
    assert said in page.getvalue()


@pytest.fixture
def trained_on(record: RunRecord) -> RunRecord:
    """The same run, had it begun with an adapter that knew half as much."""
    parent = {"world_facts": task_result("world_facts", [1] * 20 + [0] * 20, 0.08)}
    return dataclasses.replace(record, start="models:/quickstart/1", parent=parent)


def test_base_parent_and_tuned_stand_beside_each_other_with_both_differences(trained_on: RunRecord) -> None:
    page = run_report(trained_on)
    assert "Training began with the adapter `models:/quickstart/1`, the parent." in page
    assert "| task | metric | items | base | parent | tuned | majority | delta |" in page
    assert "| world_facts | acc | 40 | 0.2500 | 0.5000 | 0.8000 | 0.5000 | +0.5500 |" in page
    assert "| world_facts | acc | 40 | 0.5000 | 0.8000 | +0.3000 |" in page
    over = "Over models:/quickstart/1, from which it was trained on: score 0.800, parent 0.500, gain +0.300"
    assert over in page
    screen = io.StringIO()
    Console(file=screen, width=120).print(run_table(trained_on))
    assert "Scores beside the parent's, models:/quickstart/1" in screen.getvalue()
    assert over in " ".join(screen.getvalue().split())


def test_the_parents_score_is_a_third_dot(trained_on: RunRecord) -> None:
    pairs = compare_tasks(trained_on.base, trained_on.tuned, trained_on.shown)
    figure = scores_plot(pairs, {"world_facts": 0.5})
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:2] == ["base", "parent"]
