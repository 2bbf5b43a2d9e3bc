"""The same slot draws the same; a grid visits each point once; samplers learn what is infeasible."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject, slots

from tunery.config.project import Project
from tunery.errors import ConfigError
from tunery.search.sampling.fixed_points import value_at_quantile
from tunery.search.sampling.pruners import make_pruner
from tunery.search.sampling.samplers import make_sampler, seed_of
from tunery.search.space.grid import grid_points
from tunery.search.space.known_good import known_good
from tunery.search.space.space import declared_settings, draw, labelled

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
    """Serve a study's slots, by one sampler or by a new one each as new processes would."""
    pruner = make_pruner(project.search, 4)
    study = optuna.create_study(study_name="s", storage=storage, sampler=make_sampler(project.search), pruner=pruner)
    slots(study, project, count)
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
def test_a_slot_draws_the_same_in_one_process_and_in_one_each(make: MakeProject, sampler: str) -> None:
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


def test_slots_drawn_out_of_order_draw_what_they_would_have(make: MakeProject) -> None:
    project = make(SPACE, search__sampler="random")
    study = optuna.create_study(sampler=make_sampler(project.search))
    slots(study, project, 4)
    trials = [study.ask() for _ in range(4)]
    backwards = [draw(trial, project) for trial in reversed(trials)][::-1]
    assert backwards == serve(project, optuna.storages.InMemoryStorage(), 4, fresh_each=True)


@given(st.integers(0, 2**32 - 1), st.integers(0, 500))
def test_neighbouring_slots_and_seeds_have_seeds_of_their_own(seed: int, slot: int) -> None:
    near = {seed_of(seed, slot), seed_of(seed, slot + 1), seed_of((seed + 1) % 2**32, slot)}
    assert len(near) == 3
    assert all(0 <= each < 2**32 for each in near)


GRID = """{
  adapter.rank: {choices: [8, 16, 32]},
  adapter.dora: {choices: [true, false]},
  adapter.dropout: {low: 0.05, high: 0.25, step: 0.1, when: {adapter.dora: true}},
  adapter.alpha: '2 * adapter.rank',
}"""


def test_a_grid_visits_every_point_exactly_once(make: MakeProject, tmp_path: Path) -> None:
    project = make(GRID, search__sampler="grid", search__trials="12")
    points = grid_points(project, [declared_settings(project)])
    storage = f"sqlite:///{tmp_path / 'grid.db'}"
    study = optuna.create_study(study_name="s", storage=storage)
    slots(study, project, 1 + len(points))
    found = []
    for _ in range(1 + len(points)):
        fresh = grid_points(project, [declared_settings(project)])
        study = optuna.load_study(study_name="s", storage=storage, sampler=make_sampler(project.search, fresh))
        trial = study.ask()
        settings = draw(trial, project)
        found.append((settings["adapter.rank"], settings.get("adapter.dropout"), settings["adapter.alpha"]))
        study.tell(trial, 0.0)
    dropouts = (None, 0.05, 0.15, 0.25)
    assert sorted(found, key=str) == sorted(
        ((rank, dropout, 2 * rank) for rank in (8, 16, 32) for dropout in dropouts), key=str
    )


def test_a_grid_point_that_is_tried_anyway_is_left_out(make: MakeProject, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("- {adapter.rank: 32, adapter.dora: false}\n")
    project = make(GRID, search__sampler="grid", search__known_good="[good.yaml]")
    taken = [declared_settings(project), *known_good(project)]
    points = grid_points(project, taken)
    assert len(points) == 10
    assert all(labelled(project, each) not in points for each in taken)


def test_a_grid_in_another_order_has_the_same_points(make: MakeProject) -> None:
    orders = [grid_points(make(GRID, search__sampler="grid", search__seed=seed)) for seed in ("1", "2")]
    assert orders[0] != orders[1]
    assert sorted(map(str, orders[0])) == sorted(map(str, orders[1]))


def test_a_grid_that_is_used_up_says_so(make: MakeProject) -> None:
    project = make(GRID, search__sampler="grid")
    study = optuna.create_study(sampler=make_sampler(project.search, []))
    slots(study, project, 2)
    draw(study.ask(), project)
    trial = study.ask()
    with pytest.raises(ConfigError, match="at most the 0 points"):
        draw(trial, project)


def test_quasi_random_points_fill_the_range_evenly(make: MakeProject) -> None:
    project = make("{adapter.dropout: {low: 0.0, high: 0.8}}", search__sampler="qmc")
    found = serve_plain(project, 17)[1:]
    # Sobol: of 2^k points, one in each of 2^k equal cells.
    assert sorted(int(each["adapter.dropout"] / 0.05) for each in found) == list(range(16))


def serve_plain(project: Project, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=make_sampler(project.search))
    slots(study, project, count)
    return [draw(study.ask(), project) for _ in range(count)]


_RANGES = st.one_of(
    st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)).map(lambda p: FloatDistribution(p[0], p[0] + p[1])),
    st.tuples(st.floats(1e-6, 1e3), st.floats(1.1, 1e3)).map(lambda p: FloatDistribution(p[0], p[0] * p[1], log=True)),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda p: IntDistribution(p[0], p[0] + p[1], log=True)),
    st.tuples(st.integers(-99, 99), st.integers(1, 9), st.integers(1, 9)).map(
        lambda p: IntDistribution(p[0], p[0] + p[1] * p[2], step=p[1])
    ),
    st.lists(st.integers(), min_size=1, unique=True).map(CategoricalDistribution),
)


@given(distribution=_RANGES, quantile=st.floats(0, 1, exclude_max=True))
def test_a_quantile_gives_a_value_of_the_distribution(distribution: Any, quantile: float) -> None:
    value = value_at_quantile(distribution, quantile)
    if isinstance(distribution, CategoricalDistribution):
        assert value in distribution.choices
        return
    assert distribution.low <= value <= distribution.high
    if isinstance(distribution, IntDistribution):
        assert isinstance(value, int)
        assert (value - distribution.low) % distribution.step == 0


def test_quantiles_share_a_distribution_equally() -> None:
    steps = [value_at_quantile(IntDistribution(2, 8, step=2), at / 40) for at in range(40)]
    assert [steps.count(value) for value in (2, 4, 6, 8)] == [10, 10, 10, 10]
    middle = value_at_quantile(FloatDistribution(1e-6, 1e-2, log=True), 0.5)
    assert middle == pytest.approx(1e-4)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_keeps_away_from_what_breaks_a_constraint(make: MakeProject, sampler: str) -> None:
    """More epochs are better, but only up to 2 are allowed. Far beyond, no sampler should look; at the edge, it may."""
    project = make("{training.epochs: {low: 0.5, high: 3.5}}", search__sampler=sampler, search__seed="3")

    def far_offenders(constrained: bool) -> int:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(project.search))
        slots(study, project, 26)
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
    slots(study, project, 26)
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
    slots(study, project, 8)
    for _ in range(8):
        trial = study.ask()
        found = draw(trial, project)
        study.tell(trial, [-loss(found), found["adapter.rank"]])
    assert len(study.best_trials) >= 1
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
