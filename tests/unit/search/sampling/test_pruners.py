"""What a pruner compares, whom it spares, and that it leaves the sampler everything to learn from."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject

from tunery.search.sampling.pruners import (
    RUNGS,
    changes_loss,
    make_pruner,
    most_rungs,
    prune_metric,
    rung_value,
)
from tunery.search.space.space import QUEUE_KEY


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "score"),
        ({"training__score_checkpoints": "false"}, "validation/nll"),
        ({"training__score_checkpoints": "false", "training__keep_best_by": "score"}, "score"),
        ({"search__prune_by": "validation/nll"}, "validation/nll"),
        ({"search__pruner": "none"}, None),
        ({"search__objectives": "{score: maximize, train_seconds: minimize}"}, None),
        (
            {
                "training__score_checkpoints": "false",
                "training__keep_best_by": "last",
                "data__validation__fraction": "0",
            },
            None,
        ),
    ],
)
def test_trials_are_compared_by_what_checkpoints_measure(
    make: MakeProject, keys: dict[str, str], expected: str | None
) -> None:
    assert prune_metric(make(**keys)) == expected


@pytest.mark.parametrize(
    ("metric", "direction", "expected"),
    [
        ("score", "maximize", 0.4),
        ("score", "minimize", -0.4),
        ("validation/nll", "minimize", 1.5),
        ("validation/nll", "maximize", -1.5),
    ],
)
def test_a_rung_value_runs_in_the_direction_of_the_objective(metric: Any, direction: Any, expected: float) -> None:
    values = {"train/loss": 9.0, "validation/nll": 1.5, "validation/score": 0.4}
    assert rung_value(values, metric, direction) == expected


@pytest.mark.parametrize(
    ("space", "own_rows", "changes"),
    [
        ("{data.train.0.source: {choices: [a, b]}}", False, True),
        ("{data.train.0.source: {choices: [a, b]}}", True, False),
        ("{data.train.0.weight: {low: 0.5, high: 2}}", False, False),
        ("{data.train.0.sample.rows: {choices: [2, 4]}}", False, False),
        ("{data.decontaminate.ngram: {choices: [8, 13]}}", False, True),
        ("{data.template: {choices: [chat, plain]}}", True, True),
        ("{adapter.rank: {choices: [2, 4]}}", False, False),
    ],
)
def test_a_loss_compares_trials_only_where_it_is_of_the_same_tokens(
    make: MakeProject, space: str, own_rows: bool, changes: bool
) -> None:
    keys = {"training__score_checkpoints": "false"}
    if own_rows:
        keys["data__validation__source"] = "{source: own.jsonl}"
    project = make(space, **keys)
    assert bool(changes_loss(project)) is changes
    assert prune_metric(project) == (None if changes else "validation/nll")


PROMPTS = "data.prompt_template: {choices: ['{a}', '{b}']}"


@pytest.mark.parametrize(
    ("loss_on", "space", "changing"),
    [
        ("completion", f"{{{PROMPTS}}}", []),
        ("all", f"{{{PROMPTS}}}", ["data.prompt_template"]),
        (
            "completion",
            f"{{training.loss_on: {{choices: [completion, all]}}, {PROMPTS}}}",
            ["training.loss_on", "data.prompt_template"],
        ),
        ("completion", f"{{training.loss_on: {{choices: [completion, assistant]}}, {PROMPTS}}}", ["training.loss_on"]),
    ],
)
def test_a_prompt_changes_what_a_loss_means_where_any_trial_learns_it(
    make: MakeProject, loss_on: str, space: str, changing: list[str]
) -> None:
    assert changes_loss(make(space, training__loss_on=loss_on)) == changing


def test_a_step_without_a_checkpoint_has_no_rung_value() -> None:
    assert rung_value({"train/loss": 1.0}, "score", "maximize") is None


def run(pruner: optuna.pruners.BasePruner, values: list[float], keys: list[int], rungs: int = 4) -> list[int]:
    """Run trials that are worth a constant; how many rungs each reached before it was pruned."""
    study = optuna.create_study(study_name="s", direction="maximize", pruner=pruner)
    reached = []
    for key, value in zip(keys, values, strict=True):
        study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs={QUEUE_KEY: key}))
        trial = study.ask()
        for rung in range(1, rungs + 1):
            trial.report(value, rung)
            if trial.should_prune():
                break
        reached.append(rung)
        pruned = rung < rungs
        study.tell(trial, None if pruned else value, state=TrialState.PRUNED if pruned else TrialState.COMPLETE)
    return reached


@pytest.mark.parametrize("name", ["hyperband", "median", "percentile"])
def test_poor_trials_end_early_and_good_ones_do_not(make: MakeProject, name: str) -> None:
    values = [0.5 + step / 100 for step in range(12)] + [0.1] * 8
    reached = run(make_pruner(make(search__pruner=name).search, 4), values, list(range(1, 21)))
    assert all(rung < 4 for rung in reached[12:])
    assert reached[:12].count(4) >= 8


def test_wilcoxon_ends_a_trial_that_is_worse_at_every_rung(make: MakeProject) -> None:
    reached = run(make_pruner(make(search__pruner="wilcoxon").search, 8), [0.9, 0.1, 0.95], [1, 2, 3], rungs=8)
    assert reached == [8, 4, 8]


def test_the_projects_own_settings_are_never_pruned(make: MakeProject) -> None:
    values = [0.9] * 10 + [0.1, 0.1]
    reached = run(make_pruner(make().search, 4), values, [*range(1, 11), 0, 11])
    assert reached[10:] == [4, reached[11]]
    assert reached[11] < 4


def test_no_trial_is_pruned_at_its_last_rung(make: MakeProject) -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner(make().search, 3))
    for value in (0.9, 0.9, 0.9, 0.9, 0.1):
        trial = study.ask()
        trial.report(value, 3)
        assert not trial.should_prune()


def test_a_trial_of_fewer_epochs_is_not_pruned_at_its_own_last_one(make: MakeProject) -> None:
    project = make("{training.epochs: {choices: [2, 3]}}", training__checkpoints="epoch", training__epochs="1.5")
    assert (most_rungs(project), most_rungs(make())) == (3, 4)
    pruner = make_pruner(make(search__pruner="median").search, most_rungs(project))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    pruned = []
    for value, own in [*[(0.9, 3)] * 6, (0.1, 3), (0.1, 2)]:
        trial = study.ask()
        trial.set_user_attr(RUNGS, own)
        for rung in (1, 2):
            trial.report(value, rung)
            pruned.append(trial.should_prune())
        study.tell(trial, value)
    assert pruned[-4:] == [True, True, True, False]


@pytest.mark.parametrize(
    "keys", [{"search__pruner": "none"}, {"search__objectives": "{score: maximize, train_seconds: minimize}"}]
)
def test_nothing_is_pruned_where_no_pruner_is_in_force(make: MakeProject, keys: dict[str, str]) -> None:
    assert run(make_pruner(make(**keys).search, 4), [0.9] * 6 + [0.1], list(range(1, 8))) == [4] * 7


def test_a_trial_that_measures_nothing_is_not_pruned(make: MakeProject) -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner(make().search, 0))
    assert not study.ask().should_prune()


def test_the_sampler_sees_the_trials_of_every_bracket(make: MakeProject) -> None:
    """Optuna's own HyperbandPruner would show a sampler the trials of one bracket only."""
    seen = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            seen.append(len(study.get_trials(states=(TrialState.COMPLETE,))))
            return super().sample_independent(study, trial, name, distribution)

    study = optuna.create_study(pruner=make_pruner(make().search, 9), sampler=Watching(0))
    for _ in range(8):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
    assert seen == list(range(8))
