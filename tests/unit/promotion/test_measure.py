"""What is known of a candidate before it is scored, and how its forms are compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tunery.promotion.measure import _asked_as_trained, _Files, _other_template, _without_scores, form_scores
from tunery.promotion.scoring_process import FormAnswers
from tunery.records.scores import Score, TaskResult, TaskSettings

PRIMARY = {"quiz": "acc"}


@pytest.mark.parametrize(
    ("card", "rules", "expected"),
    [("mit", "apache-2.0", "mit"), ("unknown", "mit", "mit"), ("unknown", None, "unknown"), (None, None, None)],
)
def test_a_card_that_does_not_know_its_licence_leaves_it_to_the_rules(
    tmp_path: Path, card: str | None, rules: str | None, expected: str | None
) -> None:
    candidate: Any = SimpleNamespace(label="small/2", name="small", rules=SimpleNamespace(license=rules), notes=())
    identity = SimpleNamespace(model="acme/base", revision="main", license=card)
    own: Any = SimpleNamespace(folder=tmp_path, facts=SimpleNamespace(identity=identity))
    assert _without_scores(candidate, own, 1).license == expected


def result(values: list[float], logs: list[list[float]]) -> TaskResult:
    samples = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(values))], "acc": values, "loglikelihoods": logs})
    mean = sum(values) / len(values)
    return TaskResult(
        TaskSettings("quiz", "1", 0, None, True), {"acc": Score("quiz", "acc", mean, None, len(values))}, samples
    )


def test_the_drift_of_a_form_is_measured_in_score_items_and_nats() -> None:
    trained = result([1, 1, 0, 0], [[-1.0, -2.0]] * 4)
    merged = result([1, 0, 1, 1], [[-1.0, -2.0]] * 3 + [[-1.5, -1.0]])
    answers = FormAnswers(
        {"trained": {"quiz": trained}, "merged": {"quiz": merged}}, {"adapter": "no memory"}, primary=PRIMARY
    )
    found = form_scores(answers, 0.95)
    assert (found["trained"].drift, found["trained"].changed, found["trained"].loglikelihood) == (0.0, 0, 0.0)
    assert (found["merged"].score, found["merged"].drift, found["merged"].changed) == (0.75, 0.25, 3)
    assert found["merged"].loglikelihood == 1.0
    assert (found["adapter"].score, found["adapter"].fault) == (None, "no memory")


def test_generated_answers_have_no_loglikelihoods() -> None:
    written = result([1.0], [[]])
    assert (
        form_scores(FormAnswers({"trained": {"quiz": written}}, primary=PRIMARY), 0.95)["trained"].loglikelihood is None
    )


@pytest.mark.parametrize(
    ("theirs", "told"),
    [("own", []), (None, []), ("mine.jinja (0123abcd)", ["part of the difference may be the prompt's"])],
)
def test_a_champion_that_is_asked_through_another_template_is_told(theirs: str | None, told: list[str]) -> None:
    ours, champion = (
        SimpleNamespace(label=label, facts=SimpleNamespace(identity=SimpleNamespace(details={"template": template})))
        for label, template in (("small/2", "own"), ("small/1", theirs))
    )
    files: Any = (ours, champion)
    notes = _other_template(*files)
    assert len(notes) == len(told)
    assert all(words in note for words, note in zip(told, notes, strict=True))


def test_a_champion_is_asked_with_the_prompt_template_that_it_was_trained_with(tmp_path: Path) -> None:
    tree = {"name": "x", "data": {"prompt_template": "{review}", "clean": {}}}
    facts: Any = SimpleNamespace()
    other, without = (_Files("small/1", tmp_path, facts, 0.0, one) for one in ("Sum up: {review}", None))
    assert _asked_as_trained(tree, other) == {**tree, "data": {"prompt_template": "Sum up: {review}", "clean": {}}}
    assert _asked_as_trained(tree, without) == tree
    plain = {**tree, "data": {"prompt_template": None}}
    assert _asked_as_trained(plain, other) == plain
