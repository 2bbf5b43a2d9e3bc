"""A study's record and its looks at locked items, as the storage keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import optuna
import pytest

from tunery.records import Finalist, StudyRecord, TrialRow
from tunery.search.outcome import _looked_before, _looks, keep_record, kept_record

_MYSQL_TEXT_BYTES = 65_535


def record(trials: int) -> StudyRecord:
    rows = [
        TrialRow(
            number=number,
            state="complete",
            settings={"data.train.0.prompt_template": 'Say "ü" to \\n {prompt}'},
            values={"score": 0.5},
            metrics={f"lm_eval/task_{task}/acc": 0.5 for task in range(20)},
            seconds=float(number),
        )
        for number in range(trials)
    ]
    return StudyRecord(
        name="s", project="p", run_id="r", objectives={"score": "maximize"}, constraints={}, sampler="tpe",
        pruner="none", seed=0, trials=rows, finalists=[], notes=[],
    )  # fmt: skip


@pytest.mark.parametrize("trials", [0, 300])
def test_a_record_of_any_length_comes_back_as_it_was(trials: int) -> None:
    study = optuna.create_study()
    trial = study.ask()
    assert kept_record(study.trials[0]) is None
    keep_record(trial, record(trials))
    kept = study.trials[0]
    assert kept_record(kept) == record(trials)
    longest = max(len(json.dumps(value).encode()) for value in kept.user_attrs.values())
    assert longest <= _MYSQL_TEXT_BYTES


def finalists(runs: Sequence[str]) -> list[Finalist]:
    one = Finalist(
        trial=1, name="x", settings={}, trial_score=0.5, seeds=(1,), dev=(0.5,), locked=(), run_ids=tuple(runs),
        own=False, values=(0.5,), refused=None,
    )  # fmt: skip
    return [one]


def test_a_conclusion_that_is_made_again_looks_at_nothing_new() -> None:
    study = optuna.create_study()
    assert [_looks(study, finalists(runs)) for runs in (["a", "b"], ["b", "a"], ["a", "c"], ["a", "b"])] == [1, 1, 2, 2]
    assert list(_looked_before(1)) == []
    (said,) = _looked_before(2)
    assert "scored for 2 sets of finalists" in said
