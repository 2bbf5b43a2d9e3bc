"""Finals: who enters, with which seeds, and who wins."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from tests.unit.search.conftest import MakeProject

from tunery.config.project import Project
from tunery.records.studies import Finalist, StudyRecord
from tunery.search.conclude import _best_run
from tunery.search.finals import (
    configurations,
    final_jobs,
    finalist_trials,
    finalists,
    other_seeds,
    seeded,
    winner_among,
)
from tunery.search.report.facts import finalists_first
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY, REPEATS, SEED
from tunery.search.study import queue
from tunery.search.study.storage import FINALS
from tunery.search.study.study import create_job_study, enqueue_search_trials

RATE = "training.learning_rate"
SPACE = f"{{{RATE}: {{low: 1.0e-5, high: 1.0e-2, log: true}}}}"


@pytest.fixture
def project(make: MakeProject) -> Project:
    return make(SPACE, search__finalists="2", search__seeds="3", training__seed="7")


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="s", direction="maximize")


def add(
    study: optuna.Study,
    number: int,
    score: float,
    rate: float,
    state: TrialState = TrialState.COMPLETE,
    **metrics: float,
) -> None:
    """A trial of the search that has ended."""
    found = {"score": score, **metrics}
    known = {
        QUEUE_KEY: number,
        "settings": {RATE: rate},
        "name": f"learning_rate={rate}",
        queue.METRICS: found,
        queue.RUN_ID: f"run{number}",
    }
    values = [score] if state == TrialState.COMPLETE else None
    study.add_trial(optuna.trial.create_trial(state=state, values=values, user_attrs=known))


def run_all(
    finals: optuna.Study,
    scores: dict[int, list[float]],
    failed: tuple[str, ...] = (),
    measured: Mapping[int, Mapping[str, float]] = MappingProxyType({}),
    objective: str = "score",
) -> None:
    """Each entrant gets its scores, one a seed, and what else was measured; those of `failed` end without."""
    left = {trial: list(values) for trial, values in scores.items()}
    while finals.get_trials(states=(TrialState.WAITING,)):
        trial = finals.ask()
        score = left[trial.user_attrs["trial"]].pop(0)
        if trial.user_attrs[QUEUE_KEY] in failed:
            trial.set_user_attr(queue.FAILURE, "oom")
            finals.tell(trial, state=TrialState.FAIL)
            continue
        found = {objective: score, **measured.get(trial.user_attrs["trial"], {})}
        trial.set_user_attr(queue.METRICS, found)
        trial.set_user_attr(queue.RUN_ID, f"final{trial.number}")
        finals.tell(trial, score)


def with_finals(study: optuna.Study, project: Project) -> optuna.Study:
    return create_job_study(study._storage, f"s{FINALS}", final_jobs(study, project), "maximize")


def numbers(study: optuna.Study, project: Project) -> list[int]:
    return [row.number for row in finalist_trials(study, project)]


def test_the_best_enter_and_the_projects_own_settings_with_them(study: optuna.Study, project: Project) -> None:
    for number, score in enumerate([0.1, 0.4, 0.2, 0.3]):
        add(study, number, score, 1e-3 + number * 1e-4)
    assert numbers(study, project) == [1, 3, OWN_TRIAL]


def test_own_settings_among_the_best_enter_once(study: optuna.Study, project: Project) -> None:
    for number, score in enumerate([0.9, 0.4, 0.2]):
        add(study, number, score, 1e-3 + number * 1e-4)
    assert numbers(study, project) == [OWN_TRIAL, 1]


def test_the_same_settings_enter_once(study: optuna.Study, project: Project) -> None:
    for number, (score, rate) in enumerate([(0.1, 1e-3), (0.4, 2e-3), (0.4, 2e-3), (0.3, 3e-3)]):
        add(study, number, score, rate)
    assert numbers(study, project) == [1, 3, OWN_TRIAL]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_what_did_not_come_through_does_not_enter(study: optuna.Study, project: Project, state: TrialState) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.9, 2e-3, state)
    add(study, 2, 0.2, 3e-3)
    assert numbers(study, project) == [2, OWN_TRIAL]


def test_what_breaks_a_bound_does_not_enter(study: optuna.Study, make: MakeProject) -> None:
    project = make(SPACE, search__finalists="2", search__constraints="{peak_memory_bytes: '<= 1 GiB'}")
    add(study, 0, 0.1, 1e-3, peak_memory_bytes=1e6)
    add(study, 1, 0.9, 2e-3, peak_memory_bytes=1e12)
    add(study, 2, 0.2, 3e-3, peak_memory_bytes=1e6)
    assert numbers(study, project) == [2, OWN_TRIAL]


def test_nobody_enters_where_nothing_came_through(study: optuna.Study, project: Project) -> None:
    add(study, 0, 0.1, 1e-3, TrialState.FAIL)
    assert final_jobs(study, project) == []


def test_finals_can_be_left_out(study: optuna.Study, make: MakeProject) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.2, 2e-3)
    assert final_jobs(study, make(SPACE, search__finalists="0")) == []


def test_each_entrant_is_trained_with_seeds_that_no_trial_had(study: optuna.Study, project: Project) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.2, 2e-3)
    assert other_seeds(project) == [8, 9, 10]
    jobs = final_jobs(study, project)
    assert Counter(job.key for job in jobs) == Counter(f"{number}:{seed}" for number in (0, 1) for seed in (8, 9, 10))


def test_a_final_has_the_entrants_settings_and_its_seed(project: Project) -> None:
    made = seeded(project, 3, {RATE: 5e-4}, 9)
    assert (made.training.learning_rate, made.training.seed, made.folder) == (5e-4, 9, project.folder)
    own = seeded(project, OWN_TRIAL, {RATE: 5e-4}, 9)
    assert own.training.learning_rate == project.training.learning_rate


def test_the_winner_is_the_best_mean_and_not_the_luckiest_trial(study: optuna.Study, project: Project) -> None:
    for number, score in enumerate([0.1, 0.9, 0.5]):
        add(study, number, score, 1e-3 + number * 1e-4)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.1] * 3, 1: [0.9, 0.0, 0.0], 2: [0.4, 0.4, 0.4]})
    won = winner_among(finalists(study, finals, project), project)
    assert won is not None
    assert (won.trial, won.dev, won.values) == (2, (0.4, 0.4, 0.4), (0.4, 0.4, 0.4))


def test_the_projects_own_settings_win_a_tie(study: optuna.Study, project: Project) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.9, 2e-3)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.3] * 3, 1: [0.3] * 3})
    won = winner_among(finalists(study, finals, project), project)
    assert won is not None
    assert won.own


def test_the_winner_of_a_minimised_objective_is_the_smallest(make: MakeProject) -> None:
    project = make(
        SPACE, search__finalists="2", search__seeds="1", search__objectives="{validation/nll: minimize}",
        data__validation__fraction="0.1",
    )  # fmt: skip
    study = optuna.create_study(study_name="s", direction="minimize")
    for number, loss in enumerate([3.0, 1.0, 2.0]):
        add(study, number, loss, 1e-3 + number * 1e-4, TrialState.COMPLETE, **{"validation/nll": loss})
    assert numbers(study, project) == [1, 2, OWN_TRIAL]
    finals = create_job_study(study._storage, f"s{FINALS}", final_jobs(study, project), "minimize")
    run_all(finals, {0: [3.0], 1: [2.5], 2: [2.0]})
    won = winner_among(finalists(study, finals, project), project)
    assert won is not None
    assert won.trial == 2


TWO = "{score: maximize, train_seconds: minimize}"


def add_timed(study: optuna.Study, seconds: list[float], rates: list[float]) -> None:
    """Trials of one score that took so long."""
    for number, (took, rate) in enumerate(zip(seconds, rates, strict=True)):
        known = {QUEUE_KEY: number, "settings": {RATE: rate}, "name": str(rate), queue.RUN_ID: f"run{number}"}
        known[queue.METRICS] = {"score": 0.5, "train_seconds": took}
        study.add_trial(optuna.trial.create_trial(values=[0.5, took], user_attrs=known))


def test_equal_trials_enter_by_the_next_objective(make: MakeProject) -> None:
    project = make(SPACE, search__finalists="1", search__seeds="1", search__objectives=TWO)
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    add_timed(study, [33.0, 45.0, 21.0, 30.0], [1e-3, 2e-3, 3e-3, 4e-3])
    assert numbers(study, project) == [2, OWN_TRIAL]


@pytest.mark.parametrize(("seconds", "winner"), [(20.0, 2), (33.0, OWN_TRIAL), (40.0, OWN_TRIAL)])
def test_equal_finalists_are_told_apart_by_the_next_objective(make: MakeProject, seconds: float, winner: int) -> None:
    project = make(SPACE, search__finalists="1", search__seeds="2", search__objectives=TWO)
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    add_timed(study, [33.0, 45.0, 21.0], [1e-3, 2e-3, 3e-3])
    finals = with_finals(study, project)
    measured = {0: {"train_seconds": 33.0}, 2: {"train_seconds": seconds}}
    run_all(finals, {0: [0.4, 0.6], 2: [0.6, 0.4]}, measured=measured)
    found = finalists(study, finals, project)
    won = winner_among(found, project)
    assert won is not None
    assert won.trial == winner
    assert found[0].further == {"train_seconds": (seconds, seconds)}


def test_where_no_task_is_scored_a_loss_does_not_pass_for_a_score(make: MakeProject) -> None:
    project = make(
        SPACE, search__finalists="1", search__seeds="1", search__objectives="{validation/nll: minimize}",
        data__validation__fraction="0.1",
    )  # fmt: skip
    study = optuna.create_study(study_name="s", direction="minimize")
    known = {QUEUE_KEY: 0, "settings": {RATE: 1e-3}, queue.METRICS: {"validation/nll": 3.0}, queue.RUN_ID: "run0"}
    study.add_trial(optuna.trial.create_trial(value=3.0, user_attrs=known))
    finals = create_job_study(study._storage, f"s{FINALS}", final_jobs(study, project), "minimize", "validation/nll")
    run_all(finals, {0: [2.9]}, objective="validation/nll")
    (own,) = finalists(study, finals, project)
    assert (own.dev, own.values) == ((), (2.9,))
    assert finals.metric_names == ["validation/nll"]


def test_a_seed_that_failed_is_left_out_of_the_mean(study: optuna.Study, project: Project) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.9, 2e-3)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.3] * 3, 1: [0.9, 0.4, 0.4]}, failed=("1:8",))
    (best, own) = finalists(study, finals, project)
    assert (best.seeds, best.dev) == ((9, 10), (0.4, 0.4))
    assert own.seeds == (8, 9, 10)


def test_a_configuration_that_lost_a_seed_cannot_win_on_those_that_survived(
    study: optuna.Study, project: Project
) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.9, 2e-3)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.3] * 3, 1: [0.9] * 3}, failed=("1:8", "1:9"))
    found = finalists(study, finals, project)
    won = winner_among(found, project)
    assert won is not None
    assert won.own
    assert found[0].refused == "2 of 3 seeds failed"


def test_a_bound_that_is_broken_over_the_seeds_loses_the_finals(study: optuna.Study, make: MakeProject) -> None:
    project = make(
        SPACE, search__finalists="2", search__seeds="2", search__constraints="{delta/world_facts: '>= -0.01'}"
    )
    add(study, 0, 0.1, 1e-3, **{"delta/world_facts": 0.0})
    add(study, 1, 0.9, 2e-3, **{"delta/world_facts": 0.0})
    finals = with_finals(study, project)
    measured = {0: {"delta/world_facts": 0.0}, 1: {"delta/world_facts": -0.05}}
    run_all(finals, {0: [0.3] * 2, 1: [0.9] * 2}, measured=measured)
    found = finalists(study, finals, project)
    won = winner_among(found, project)
    assert won is not None
    assert won.own
    assert found[0].refused == "over its seeds delta/world_facts is -0.05, but must be >= -0.01"


def test_the_projects_own_settings_cannot_win_over_a_bound(study: optuna.Study, make: MakeProject) -> None:
    project = make(SPACE, search__finalists="1", search__seeds="1", search__constraints="{model_bytes: '<= 100'}")
    add(study, 0, 0.9, 1e-3, model_bytes=500.0)
    add(study, 1, 0.5, 2e-3, model_bytes=50.0)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.9], 1: [0.5]}, measured={0: {"model_bytes": 500.0}, 1: {"model_bytes": 50.0}})
    won = winner_among(finalists(study, finals, project), project)
    assert won is not None
    assert won.trial == 1


def test_an_entrant_of_which_every_seed_failed_is_no_finalist(study: optuna.Study, project: Project) -> None:
    add(study, 0, 0.1, 1e-3)
    add(study, 1, 0.9, 2e-3)
    finals = with_finals(study, project)
    run_all(finals, {0: [0.3] * 3, 1: [0.9] * 3}, failed=("1:8", "1:9", "1:10"))
    assert [one.trial for one in finalists(study, finals, project)] == [OWN_TRIAL]


def test_more_trials_run_only_the_finals_that_are_new(study: optuna.Study, project: Project) -> None:
    for number, score in enumerate([0.1, 0.2, 0.3]):
        add(study, number, score, 1e-3 + number * 1e-4)
    finals = with_finals(study, project)
    scores = {number: [0.1 * number] * 3 for number in range(4)}
    run_all(finals, scores)
    add(study, 3, 0.9, 9e-3)
    finals = with_finals(study, project)
    assert {trial.user_attrs["trial"] for trial in queue.unfinished(finals)} == {3}
    run_all(finals, scores)
    assert len(finals.get_trials(states=(TrialState.COMPLETE,))) == 12
    assert [one.trial for one in finalists(study, finals, project)] == [3, 2, OWN_TRIAL]


def test_finals_of_an_entrant_that_was_displaced_are_not_begun(study: optuna.Study, project: Project) -> None:
    for number, score in enumerate([0.1, 0.2, 0.3]):
        add(study, number, score, 1e-3 + number * 1e-4)
    with_finals(study, project)
    add(study, 3, 0.9, 9e-3)
    finals = with_finals(study, project)
    assert {_of(trial) for trial in queue.unfinished(finals)} == {3, 2, OWN_TRIAL}
    waiting = finals.get_trials(states=(TrialState.WAITING,))
    assert {_of(trial) for trial in waiting} == {3, 2, OWN_TRIAL}


def _of(trial: FrozenTrial) -> Any:
    return trial.user_attrs["trial"]


def test_the_seed_that_is_registered_is_the_best_by_what_decides(make: MakeProject) -> None:
    project = make(SPACE, search__objectives="{validation/nll: minimize}", data__validation__fraction="0.1")
    winner = Finalist(1, "x", {}, (8, 9, 10), (1.5, 1.0, 3.0), (), ("a", "b", "c"), values=(1.5, 1.0, 3.0))
    loser = dataclasses.replace(winner, trial=2, values=(2.2, 2.2, 2.2), dev=(2.2, 2.2, 2.2))
    record = StudyRecord("s", "x", "run", {"validation/nll": "minimize"}, {}, "tpe", "none", 0, (), (loser, winner), 1)
    assert _best_run(record, project) == "b"
    assert [one.trial for one in finalists_first(record)] == [1, 2]


# ---- repeats


@pytest.fixture
def repeated(make: MakeProject) -> Project:
    return make(
        "{adapter.rank: {choices: [8, 16, 32]}}",
        search__sampler="grid", search__trials="all", search__repeats="2", search__pruner="none",
        search__finalists="1", training__seed="7",
    )  # fmt: skip


def test_every_point_is_queued_once_a_repeat_and_a_larger_number_adds_the_missing(
    repeated: Project, study: optuna.Study, make: MakeProject
) -> None:
    enqueue_search_trials(study, repeated, [], "all")
    queued = [trial.user_attrs for trial in study.trials]
    assert [(known[QUEUE_KEY], known[REPEATS], known[SEED]) for known in queued] == [
        (0, 0, 7), (1, 1, 7), (2, 2, 7), (3, 0, 8), (4, 1, 8), (5, 2, 8),
    ]  # fmt: skip
    more = repeated.model_copy(update={"search": repeated.search.model_copy(update={"repeats": 3})})
    enqueue_search_trials(study, more, [], "all")
    assert [trial.user_attrs[SEED] for trial in study.trials] == [7, 7, 7, 8, 8, 8, 9, 9, 9]
    assert [trial.user_attrs[QUEUE_KEY] for trial in study.trials] == list(range(9))


def end(study: optuna.Study, key: int, score: float | None) -> None:
    known = {QUEUE_KEY: key, REPEATS: key % 3, SEED: 7 + key // 3, "settings": {"adapter.rank": key % 3}, "name": ""}
    if score is None:
        study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={**known, queue.FAILURE: "error"}))
        return
    known |= {queue.METRICS: {"score": score}, queue.RUN_ID: f"run{key}"}
    study.add_trial(optuna.trial.create_trial(state=TrialState.COMPLETE, value=score, user_attrs=known))


def test_the_best_mean_over_repeats_wins_not_the_best_repeat(repeated: Project, study: optuna.Study) -> None:
    for key, score in enumerate((0.5, 0.9, 0.6, 0.5, 0.1, 0.7)):
        end(study, key, score)
    assert [(one.trial, one.dev, one.seeds) for one in configurations(study, repeated)] == [
        (0, (0.5, 0.5), (7, 8)),
        (1, (0.9, 0.1), (7, 8)),
        (2, (0.6, 0.7), (7, 8)),
    ]
    entered = finalists(study, None, repeated)
    assert [(one.trial, one.own) for one in entered] == [(2, False), (0, True)]
    won = winner_among(entered, repeated)
    assert won is not None
    assert won.trial == 2
    assert final_jobs(study, repeated) == []


def test_a_configuration_that_lost_a_repeat_cannot_win(repeated: Project, study: optuna.Study) -> None:
    for key, score in enumerate((0.5, 0.9, 0.6, 0.5, None, 0.7)):
        end(study, key, score)
    lost = configurations(study, repeated)[1]
    assert (lost.trial, lost.refused) == (1, "1 of 2 seeds failed")
    assert [one.trial for one in finalists(study, None, repeated)] == [2, 0]
