"""A study whose settings were changed: refused once a trial was trained with the old ones, recreated before that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject

from tunery.config.project import Project
from tunery.errors import ConfigError
from tunery.search.study import queue
from tunery.search.study.mlflow_runs import STUDY_RUN
from tunery.search.study.study import DEFINITION, create_or_load, delete_untrained
from tunery.tracking import study_runs

SPACE = "{adapter.rank: {choices: [8, 16]}}"
ENDED: list[str] = []


@pytest.fixture(autouse=True)
def _mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    ENDED.clear()
    monkeypatch.setattr(study_runs, "run_tagged", lambda *_: None)
    monkeypatch.setattr(study_runs, "end_study", lambda store, run: ENDED.append(run))


@pytest.fixture
def again(make: MakeProject) -> Callable[..., optuna.Study]:
    """Make a study, do something to it, and run the command again with other settings."""
    storage = InMemoryStorage()

    def _again(meanwhile: Callable[[optuna.Study], object], **keys: str) -> optuna.Study:
        meanwhile(create_or_load(storage, make(SPACE), "s", [], alone=True))
        return resumed(storage, make(SPACE, **keys))

    return _again


def resumed(storage: InMemoryStorage, project: Project) -> optuna.Study:
    nowhere: Any = None
    delete_untrained(storage, project, "s", [], nowhere)
    return create_or_load(storage, project, "s", [], alone=True)


def trial(state: TrialState, **attributes: Any) -> Callable[[optuna.Study], None]:
    """Add a trial that has ended so."""

    def add(study: optuna.Study) -> None:
        value = 0.5 if state == TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))

    return add


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda study: None,
        trial(TrialState.FAIL, failure="error", run_id="r"),
        trial(TrialState.FAIL, failure="killed"),
        trial(TrialState.RUNNING, worker="w", run_id="r"),
        trial(TrialState.PRUNED, failure="infeasible"),
    ],
)
def test_settings_with_which_nothing_was_trained_may_be_mended(
    again: Callable[..., optuna.Study], meanwhile: Callable[[optuna.Study], None]
) -> None:
    study = again(meanwhile, search__objectives="{validation/nll: minimize}")
    assert study.get_trials() == []
    assert study.direction.name == "MINIMIZE"
    assert study.user_attrs[DEFINITION]["objectives"] == [["validation/nll", "minimize"]]


@pytest.mark.parametrize(
    "meanwhile",
    [
        trial(TrialState.COMPLETE),
        trial(TrialState.PRUNED),
        trial(TrialState.PRUNED, failure="oom"),
        trial(TrialState.RUNNING, **{queue.TRAINED: True}),
        trial(TrialState.FAIL, failure="killed", **{queue.TRAINED: True}),
        trial(TrialState.FAIL, failure="error", **{queue.METRICS: {"score": 0.5}}),
    ],
)
def test_settings_with_which_a_trial_was_trained_stay(
    again: Callable[..., optuna.Study], meanwhile: Callable[[optuna.Study], None]
) -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs was 1\.0, is now 3\.0\. Undo that to resume it"):
        again(meanwhile, training__epochs="3")


def test_the_run_of_a_study_that_is_recreated_is_ended(again: Callable[..., optuna.Study]) -> None:
    study = again(lambda made: made.set_user_attr(STUDY_RUN, "run"), training__epochs="3")
    assert ENDED == ["run"]
    assert STUDY_RUN not in study.user_attrs


def test_a_study_that_has_not_changed_keeps_what_waits(again: Callable[..., optuna.Study]) -> None:
    study = again(lambda made: queue.enqueue_trials(made, [queue.TrialJob(0), queue.TrialJob(1)]), search__trials="7")
    assert len(study.get_trials()) == 2


def test_advice_is_no_fault(again: Callable[..., optuna.Study]) -> None:
    with pytest.raises(ConfigError) as caught:
        again(trial(TrialState.COMPLETE), training__epochs="3", adapter__rank="8")
    assert str(caught.value).startswith("study s has 2 faults\n")
    assert str(caught.value).endswith("\n  Undo that to resume it, or start another study: --study NAME.")


def test_of_many_changes_the_first_are_told_and_the_others_counted(again: Callable[..., optuna.Study]) -> None:
    keys = {"epochs", "learning_rate", "max_grad_norm", "warmup_ratio", "weight_decay", "micro_batch_size"}
    changed = {f"training__{key}": "0.5" if key != "micro_batch_size" else "3" for key in keys}
    more = {f"adapter__{key}": "3" for key in ("rank", "alpha")} | {"adapter__dropout": "0.5"}
    also = {f"evaluation__{key}": "3" for key in ("few_shot", "limit", "batch_size")} | {"data__max_length": "3"}
    with pytest.raises(ConfigError, match=r"has 12 faults[\s\S]*  And 1 more\. Undo that"):
        again(trial(TrialState.COMPLETE), **changed, **more, **also)
