"""A score beside that of one answer to all items."""

from __future__ import annotations

import pandas as pd
import pytest

from tunery.records.scores import ChangedAnswers, ChosenAnswers, Score, TaskResult, TaskSettings
from tunery.reporting.answers import changed, chosen, majority, unchanged, warning
from tunery.statistics.majority import answers_of, changed_of


def answered(picked: list[int], right: list[int], options: list[list[str]], metric: str = "acc") -> TaskResult:
    """A task whose options got the log-likelihood -1 where picked, -2 elsewhere."""
    rows = [
        {
            "item_id": f"item{number}",
            "split": "locked",
            "task": "hans",
            "target": names[gold],
            "options": names,
            "loglikelihoods": [-1.0 if place == pick else -2.0 for place in range(len(names))],
            metric: float(pick == gold),
        }
        for number, (pick, gold, names) in enumerate(zip(picked, right, options, strict=True))
    ]
    samples = pd.DataFrame(rows)
    score = Score("hans", metric, float(samples[metric].mean()), 0.03, len(rows))
    return TaskResult(TaskSettings("hans", "1.0", 0, None, True), {metric: score}, samples, metric)


def hans(picked: list[int]) -> TaskResult:
    """200 items of which 87 are a "yes"."""
    return answered(picked, [0] * 87 + [1] * 113, [["yes", "no"]] * 200)


def found(result: TaskResult, metric: str = "acc") -> ChosenAnswers:
    answers = answers_of(result, metric)
    assert answers is not None
    return answers


# 190 times "no": 7 of the other 10 are right.
FLIPPED = hans([0] * 7 + [1] * 80 + [0] * 3 + [1] * 110)


def test_a_flip_that_looks_like_a_gain_is_named() -> None:
    answers = found(FLIPPED)
    assert (answers.score, answers.majority, answers.majority_score) == (0.585, "no", 0.565)
    assert chosen(answers) == "no 190, yes 10"
    assert majority(answers) == "0.565 (no)"
    assert answers.difference.value == pytest.approx(0.02)
    assert warning(answers, "the tuned model") == (
        "hans: the tuned model answers 'no' to 190 of 200 items and scores 0.585, where always 'no' scores 0.565: "
        "not surely better than that."
    )


def test_an_answer_that_is_never_chosen_is_counted() -> None:
    assert found(hans([0] * 200)).chosen == {"yes": 200, "no": 0}


def test_a_model_that_answers_alike_where_nearly_all_items_are_alike_and_finds_the_others_is_not_blamed() -> None:
    right = [0] * 10 + [1] * 190
    assert warning(found(answered(right, right, [["yes", "no"]] * 200)), "it") is None


def test_a_model_that_answers_this_and_that_but_no_better_than_one_answer_is_named() -> None:
    told = warning(found(hans([0, 1] * 100)), "the base")
    assert told == "hans: the base scores 0.505, no better than one answer to all items: always 'no' scores 0.565."


def test_a_model_that_beats_the_majority_is_not_named() -> None:
    assert warning(found(hans([0] * 60 + [1] * 140)), "it") is None


def test_options_of_their_own_are_named_by_place() -> None:
    options = [[f"red {number}", f"blue {number}"] for number in range(40)]
    answers = found(answered([0] * 40, [0, 1] * 20, options))
    assert answers.chosen == {"option 1": 40, "option 2": 0}
    assert answers.majority_score == 0.5


@pytest.mark.parametrize("right", [[0] * 40, [0] * 38 + [1] * 2])
def test_one_place_that_is_right_by_order_is_no_answer_that_a_model_could_give(right: list[int]) -> None:
    options = [[f"right {number}", f"wrong {number}"] for number in range(40)]
    assert answers_of(answered(right, right, options), "acc") is None


def test_the_metric_decides_which_option_was_chosen() -> None:
    result = hans([0] * 200)
    # Per letter "yes" lies at -1 / 3, "no" at -2 / 2: both metrics choose alike; with -4 / 3 they do not.
    samples = result.samples.assign(loglikelihoods=[[-2.5, -2.0]] * 200)
    samples = samples.assign(
        acc=(samples["target"] == "no").astype(float), acc_norm=(samples["target"] == "yes").astype(float)
    )
    scores = {name: Score("hans", name, float(samples[name].mean()), 0.03, 200) for name in ("acc", "acc_norm")}
    both = TaskResult(result.settings, scores, samples, "acc")
    assert found(both).chosen == {"no": 200, "yes": 0}
    assert found(both, "acc_norm").chosen == {"yes": 200, "no": 0}


@pytest.mark.parametrize("lost", ["options", "target", "loglikelihoods"])
def test_answers_that_an_earlier_version_kept_have_no_majority(lost: str) -> None:
    result = hans([0] * 200)
    old = TaskResult(result.settings, result.scores, result.samples.drop(columns=lost), "acc")
    assert answers_of(old, "acc") is None


def test_a_metric_that_says_something_else_than_the_right_option_has_no_majority() -> None:
    result = hans([0] * 200)
    other = result.samples.assign(acc=0.25)
    scores = {"acc": Score("hans", "acc", 0.25, 0.0, 200)}
    assert answers_of(TaskResult(result.settings, scores, other, "acc"), "acc") is None


def written(texts: list[str]) -> TaskResult:
    """Answers in writing, each worth 0."""
    rows = [{"item_id": f"item{number}", "raw_answers": [text], "rougeL": 0.0} for number, text in enumerate(texts)]
    score = Score("reviews", "rougeL", 0.0, None, len(rows))
    return TaskResult(TaskSettings("reviews", "1.0", 0, None, True), {"rougeL": score}, pd.DataFrame(rows), "rougeL")


def test_another_wrong_answer_is_a_changed_one() -> None:
    wrong = [answered([pick] * 30, [0] * 30, [["yes", "no", "maybe"]] * 30) for pick in (1, 2)]
    assert changed_of(*wrong, "acc") == ChangedAnswers("hans", 30, 30)
    assert changed_of(written(["a", "b"]), written(["a", "c"]), "rougeL") == ChangedAnswers("reviews", 1, 2)


def test_a_model_that_changed_no_answer_is_named() -> None:
    same = changed_of(FLIPPED, FLIPPED, "acc")
    assert unchanged(same, "lora") == "hans: 0 of 200 answers changed: lora answers every item as the base does."
    other = changed_of(FLIPPED, hans([0] * 200), "acc")
    assert changed(other) == "190 of 200"
    assert unchanged(other, "lora") is None


def test_items_that_only_one_side_answered_are_not_counted() -> None:
    part = FLIPPED.samples.iloc[:50]
    few = TaskResult(FLIPPED.settings, FLIPPED.scores, part, "acc")
    assert changed_of(few, FLIPPED, "acc") == ChangedAnswers("hans", 0, 50)


def test_a_task_that_answers_nothing_has_no_changed_answers() -> None:
    rows = pd.DataFrame([{"item_id": "a", "raw_answers": [], "options": [], "word_perplexity": 3.0}])
    text = TaskResult(TaskSettings("wikitext", "1.0", 0, None, False), {}, rows, "word_perplexity")
    assert changed_of(text, text, "word_perplexity") is None
