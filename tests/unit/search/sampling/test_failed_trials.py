"""Failures by settings reach the sampler, whichever it is, and nothing that cannot be run is begun twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from tests.unit.search.conftest import MakeProject, enqueue

from tunery.config.project import Project
from tunery.errors import OutOfMemory
from tunery.search import trials
from tunery.search.sampling.failed_trials import with_failed_trials
from tunery.search.sampling.samplers import make_sampler
from tunery.search.space.space import draw
from tunery.search.study import queue
from tunery.search.study.progress import StudyProgress
from tunery.search.study.study import create_or_load, enqueue_search_trials
from tunery.search.trials import run_search_trial
from tunery.search.worker import Worker


def failed(settings: dict[str, Any], failure: str = "oom", **attributes: Any) -> optuna.trial.FrozenTrial:
    known = {queue.FAILURE: failure, "settings": settings, **attributes}
    return create_trial(state=TrialState.PRUNED, user_attrs=known)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])  # nsga2 takes no parent from them either way
def test_a_sampler_keeps_away_from_what_failed(make: MakeProject, sampler: str) -> None:
    """More epochs are better, but above 2 every trial runs out of memory."""
    space = "{training.epochs: {low: 0.5, high: 3.5}, adapter.dropout: {low: 0.0, high: 0.2}}"
    project = make(space, search__sampler=sampler, search__seed="1")

    def offenders(taught: bool) -> int:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(project.search))
        enqueue(study, project, 40)
        found = []
        for _ in range(40):
            trial = study.ask()
            settings = draw(trial, project)
            found.append(settings["training.epochs"])
            if found[-1] > 2.0:
                if taught:
                    trial.set_user_attr(queue.FAILURE, "oom")
                    trial.set_user_attr("settings", settings)
                study.tell(trial, state=TrialState.PRUNED if taught else TrialState.FAIL)
            else:
                study.tell(trial, found[-1])
        return sum(epochs > 2.0 for epochs in found[-20:])

    assert offenders(taught=True) < offenders(taught=False)


@pytest.mark.parametrize(("direction", "worst"), [("maximize", 0.2), ("minimize", 0.9)])
def test_a_failure_is_shown_as_bad_as_the_worst_result(direction: str, worst: float) -> None:
    study = optuna.create_study(direction=direction)
    for value, excess in ((0.9, -1.0), (0.2, 3.0)):
        study.add_trial(create_trial(value=value, constraints={"memory": excess}))
    study.add_trial(failed({}))
    study.add_trial(create_trial(state=TrialState.PRUNED))  # by the pruner: it is no failure
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={queue.FAILURE: "infeasible"}))  # not drawn whole
    shown = with_failed_trials(study, "gp")._get_trials()
    assert [trial.state.name for trial in shown] == ["COMPLETE"] * 3 + ["PRUNED"] * 2
    assert (shown[2].value, shown[2].constraints) == (worst, {"memory": 3.0})
    assert study.get_trials()[2].state == TrialState.PRUNED  # the storage keeps what was


def test_a_failure_alone_changes_nothing_yet() -> None:
    study = optuna.create_study()
    study.add_trial(failed({}))
    assert [trial.state for trial in with_failed_trials(study, "gp")._get_trials()] == [TrialState.PRUNED]


def test_tpe_sees_a_broken_constraint() -> None:
    study = optuna.create_study()
    study.add_trial(failed({}))
    (shown,) = with_failed_trials(study, "tpe")._get_trials(states=(TrialState.PRUNED,))
    assert max(shown.constraints.values()) > 0


def worked_through(project: Project, monkeypatch: pytest.MonkeyPatch, count: int, fits: Any) -> Any:
    """A study whose trials fit or run out of memory, and the settings that were begun."""
    begun: list[str] = []

    def run(worker: Worker, trial: optuna.Trial, *_: Any, **__: Any) -> dict[str, float]:
        begun.append(str(trial.user_attrs["settings"]))
        trial.set_user_attr(queue.RUN_ID, f"run{trial.number}")
        if not fits(trial.user_attrs["settings"]):
            raise OutOfMemory("training", "3 GiB wanted")
        return {"score": 0.5}

    def refuse(*words: Any) -> None:
        raise words[-1]

    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "refuse_trial", refuse)
    study = create_or_load(optuna.storages.InMemoryStorage(), project, "s", [])
    enqueue_search_trials(study, project, [], count)
    worker = Worker(project, None, "", StudyProgress(project))  # type: ignore[arg-type]
    worker.work(study, lambda trial: run_search_trial(worker, trial))
    return study, begun


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "qmc"])
def test_settings_that_ran_out_of_memory_are_not_begun_again(
    make: MakeProject, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    project = make("{adapter.rank: {choices: [8, 16, 32, 64]}}", search__sampler=sampler)
    study, begun = worked_through(project, monkeypatch, 12, lambda settings: settings["adapter.rank"] < 32)
    current = queue.current_trials(study)
    assert {trial.state.is_finished() for trial in current.values()} == {True}
    assert set(current) == set(range(12))
    counts = Counter(begun)
    assert all(times == 1 for settings, times in counts.items() if "32" in settings or "64" in settings)
    if sampler == "random":  # another draw took the place of each: no trial is lost to a repetition
        assert sum(trial.state == TrialState.COMPLETE for trial in current.values()) >= 10


def test_a_space_of_which_all_fails_comes_to_an_end(make: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make("{adapter.rank: {choices: [8, 16]}}", search__sampler="random")
    study, begun = worked_through(project, monkeypatch, 5, lambda _: False)
    assert len(begun) <= 3  # the project's own 16 once, and 8 once
    ended = [trial for trial in queue.current_trials(study).values() if trial.user_attrs[queue.FAILURE] == "infeasible"]
    assert len(ended) == 5 - len(begun)
    assert all("the same settings as trial" in trial.user_attrs[queue.REASON] for trial in ended)
