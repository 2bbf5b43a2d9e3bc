"""Which scores a model card tells: those of items that nothing was chosen on, where there are any."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compared import BASE, IDENTITY, logged, result

from tunery.serving.export.card import CardScore
from tunery.serving.export.model import card_scores
from tunery.tracking import base_scores
from tunery.tracking.run_facts import RunFacts, read_run
from tunery.tracking.store import Store


def chosen_run(store: Store) -> RunFacts:
    """A run whose checkpoint was chosen on dev items: 0.75 on all of them, 0.5 on the two that are locked."""
    run_id = logged(store, split="locked")
    store.client.log_metric(run_id, "locked/quiz/acc", 0.5)
    store.client.log_metric(run_id, "locked/quiz/acc_stderr", 0.1)
    return read_run(store, run_id)


def test_scores_are_of_locked_items_beside_the_base_on_the_same_ones(store: Store) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE))
    [score], scored_on = card_scores(chosen_run(store), store)
    assert scored_on == "locked"
    assert (score.value, score.stderr, score.base) == (0.5, 0.1, 0.0)
    assert score.delta_stderr == pytest.approx(0.5)  # differences 1 and 0: s = 0.7071, over the root of 2


def test_without_the_bases_answers_locked_scores_stand_alone(store: Store) -> None:
    scores, scored_on = card_scores(chosen_run(store), store)
    assert (scores, scored_on) == ([CardScore("quiz", "acc", 0.5, 0.1)], "locked")


@pytest.mark.parametrize(
    ("tags", "training", "expected"),
    [
        ({"tunery.kind": "trial"}, {}, "chosen"),
        ({"tunery.kind": "train"}, {"keep_best_by": "score"}, "chosen"),
        ({"tunery.kind": "train"}, {"keep_best_by": "loss"}, "all"),
    ],
)
def test_scores_of_items_that_a_model_was_chosen_on_are_called_so(
    store: Store, tags: dict[str, str], training: dict[str, str], expected: str
) -> None:
    metrics = {"lm_eval/quiz/acc": 0.75, "base/quiz/acc": 0.5}
    config: dict[str, Any] = {"training": training}
    scores, scored_on = card_scores(RunFacts("a", metrics, tags, config), store)
    assert (scores, scored_on) == ([CardScore("quiz", "acc", 0.75, base=0.5)], expected)
