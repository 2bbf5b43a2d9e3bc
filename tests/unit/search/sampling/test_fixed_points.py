"""A grid visits each point once; a Sobol sequence fills the space evenly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject, enqueue

from tunery.config.project import Project
from tunery.search.sampling.fixed_points import fixed_points, grid_points, untried_points
from tunery.search.sampling.samplers import make_sampler
from tunery.search.space.known_good import known_good
from tunery.search.space.space import declared_settings, draw, labelled

GRID = """{
  adapter.rank: {choices: [8, 16, 32]},
  adapter.dora: {choices: [true, false]},
  adapter.dropout: {low: 0.05, high: 0.25, step: 0.1, when: {adapter.dora: true}},
  adapter.alpha: '2 * adapter.rank',
}"""


def test_a_grid_visits_every_point_exactly_once(make: MakeProject, tmp_path: Path) -> None:
    project = make(GRID, search__sampler="grid", search__trials="12")
    storage = f"sqlite:///{tmp_path / 'grid.db'}"
    study = optuna.create_study(study_name="s", storage=storage)
    enqueue(study, project, 5)
    enqueue(study, project, 99)  # the total was raised: the grid has no more
    found = []
    while any(trial.state == TrialState.WAITING for trial in study.trials):
        study = optuna.load_study(study_name="s", storage=storage, sampler=make_sampler(project.search))
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


def test_points_that_no_trial_has_are_counted(make: MakeProject) -> None:
    project = make("{adapter.rank: {choices: [8, 16, 32]}, adapter.alpha: '2 * adapter.rank'}", search__sampler="grid")
    tried = [{"adapter.rank": rank, "adapter.alpha": 2 * rank} for rank in (16, 8, 32)]
    assert [untried_points(project, tried[:count]) for count in range(4)] == [3, 2, 1, 0]


def test_a_grid_in_another_order_has_the_same_points(make: MakeProject) -> None:
    orders = [grid_points(make(GRID, search__sampler="grid", search__seed=seed)) for seed in ("1", "2")]
    assert orders[0] != orders[1]
    assert sorted(map(str, orders[0])) == sorted(map(str, orders[1]))


def test_a_grid_point_whose_derived_key_has_no_value_stays_in_the_grid(make: MakeProject) -> None:
    space = "{adapter.rank: {choices: [8, 16, 32]}, adapter.alpha: '1 / (adapter.rank - 8)'}"
    points = grid_points(make(space, search__sampler="grid"))
    assert sorted(point["adapter.rank"] for point in points) == [8, 16, 32]


def test_a_sobol_sequence_fills_the_range_evenly(make: MakeProject) -> None:
    project = make("{adapter.dropout: {low: 0.0, high: 0.8}}", search__sampler="qmc")
    found = serve_plain(project, 17)[1:]
    # Sobol: of 2^k points, one in each of 2^k equal cells.
    assert sorted(int(each["adapter.dropout"] / 0.05) for each in found) == list(range(16))


def serve_plain(project: Project, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=make_sampler(project.search))
    enqueue(study, project, count)
    return [draw(study.ask(), project) for _ in range(count)]


def test_a_sobol_sequence_shares_choices_and_whole_numbers_equally(make: MakeProject) -> None:
    space = """{
      adapter.dora: {choices: [true, false]},
      adapter.rank: {low: 2, high: 8, step: 2},
      training.learning_rate: {low: 1.0e-6, high: 1.0e-2, log: true},
    }"""
    found = fixed_points(make(space, search__sampler="qmc"), [], 16)
    assert Counter(each["adapter.dora"] for each in found) == {True: 8, False: 8}
    assert Counter(each["adapter.rank"] for each in found) == {2: 4, 4: 4, 6: 4, 8: 4}
    assert sum(each["training.learning_rate"] < 1e-4 for each in found) == 8


def test_the_points_of_a_larger_total_begin_with_those_of_a_smaller_one(make: MakeProject) -> None:
    for sampler in ("grid", "qmc"):
        project = make(GRID, search__sampler=sampler, search__trials="12")
        assert fixed_points(project, [], 8)[:5] == fixed_points(project, [], 5)
    assert fixed_points(make(GRID, search__sampler="tpe"), [], 8) == []
