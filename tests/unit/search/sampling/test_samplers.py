"""The same trial draws the same, however often resumed; samplers learn what is infeasible."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject, enqueue

from tunery.config.project import Project
from tunery.search.sampling.pruners import make_pruner
from tunery.search.sampling.samplers import make_sampler, seed_of
from tunery.search.space.space import draw

SPACE = """{
  training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true},
  adapter.rank: {choices: [8, 16, 32]},
  adapter.dora: {choices: [true, false]},
  adapter.dropout: {low: 0.0, high: 0.2, when: {adapter.dora: true}},
}"""
SAMPLERS = ["tpe", "random", "qmc", "gp", "cmaes", "nsga2"]


def loss(found: dict[str, Any]) -> float:
    return abs(math.log10(found["training.learning_rate"]) + 4) + found["adapter.rank"] / 100


def serve(project: Project, storage: Any, count: int, fresh_each: bool) -> list[dict[str, Any]]:
    """Serve a study's trials, by one sampler or by a new one each as new processes would."""
    pruner = make_pruner(project.search, 4)
    study = optuna.create_study(study_name="s", storage=storage, sampler=make_sampler(project.search), pruner=pruner)
    enqueue(study, project, count)
    found = []
    for _ in range(count):
        if fresh_each:
            study = optuna.load_study(
                study_name="s", storage=storage, sampler=make_sampler(project.search), pruner=pruner
            )
        trial = study.ask()
        found.append(draw(trial, project))
        study.tell(trial, loss(found[-1]))
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_draws_the_same_in_one_process_and_in_one_each(make: MakeProject, sampler: str) -> None:
    project = make(SPACE, search__sampler=sampler, search__seed="7")
    together = serve(project, optuna.storages.InMemoryStorage(), 12, fresh_each=False)
    apart = serve(project, optuna.storages.InMemoryStorage(), 12, fresh_each=True)
    assert together == apart
    assert len({str(found) for found in together}) > 6


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_another_seed_draws_otherwise(make: MakeProject, sampler: str) -> None:
    one, other = (
        serve(make(SPACE, search__sampler=sampler, search__seed=seed), optuna.storages.InMemoryStorage(), 3, False)
        for seed in ("1", "2")
    )
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_trials_drawn_out_of_order_draw_what_they_would_have(make: MakeProject) -> None:
    project = make(SPACE, search__sampler="random")
    study = optuna.create_study(sampler=make_sampler(project.search))
    enqueue(study, project, 4)
    trials = [study.ask() for _ in range(4)]
    backwards = [draw(trial, project) for trial in reversed(trials)][::-1]
    assert backwards == serve(project, optuna.storages.InMemoryStorage(), 4, fresh_each=True)


@given(st.integers(0, 2**32 - 1), st.integers(0, 500))
def test_neighbouring_trials_and_seeds_have_seeds_of_their_own(seed: int, number: int) -> None:
    near = {seed_of(seed, number), seed_of(seed, number + 1), seed_of((seed + 1) % 2**32, number)}
    assert len(near) == 3
    assert all(0 <= each < 2**32 for each in near)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_keeps_away_from_what_breaks_a_constraint(make: MakeProject, sampler: str) -> None:
    """More epochs are better, but only up to 2 are allowed. Far beyond, no sampler should look; at the edge, it may."""
    project = make("{training.epochs: {low: 0.5, high: 3.5}}", search__sampler=sampler, search__seed="3")

    def far_offenders(constrained: bool) -> int:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(project.search))
        enqueue(study, project, 26)
        found = []
        for _ in range(26):
            trial = study.ask()
            found.append(draw(trial, project)["training.epochs"])
            if constrained:
                trial.set_constraint("epochs", found[-1] - 2.0)
            study.tell(trial, found[-1])
        return sum(epochs > 2.5 for epochs in found[-14:])

    assert far_offenders(constrained=False) >= 11
    assert far_offenders(constrained=True) <= 3


def test_a_setting_that_ran_out_of_memory_is_taken_for_a_bad_one(make: MakeProject) -> None:
    project = make("{training.epochs: {low: 0.5, high: 3.5}}", search__seed="3")
    study = optuna.create_study(direction="maximize", sampler=make_sampler(project.search))
    enqueue(study, project, 26)
    found = []
    for _ in range(26):
        trial = study.ask()
        found.append(draw(trial, project)["training.epochs"])
        if found[-1] > 2.0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 1.0 / found[-1])
    assert sum(epochs > 2.0 for epochs in found[-14:]) <= 3


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_several_objectives_are_searched(make: MakeProject, sampler: str) -> None:
    objectives = "{score: maximize, train_seconds: minimize}"
    project = make(SPACE, search__sampler=sampler, search__objectives=objectives)
    study = optuna.create_study(
        directions=list(project.search.objectives.values()),
        sampler=make_sampler(project.search),
        pruner=make_pruner(project.search, 4),
    )
    enqueue(study, project, 8)
    for _ in range(8):
        trial = study.ask()
        found = draw(trial, project)
        study.tell(trial, [-loss(found), found["adapter.rank"]])
    assert len(study.best_trials) >= 1
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
