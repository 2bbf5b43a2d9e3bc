"""What an observer is shown of a study while it runs, what Optuna's own pages show, and the seconds that it took."""

from __future__ import annotations

import warnings

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from tests.unit.search.conftest import MakeProject

from tunery.runs.observer import StudyObserver
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import progress, queue
from tunery.search.study.progress import ELAPSED, SEARCHED, SECONDS, Stopwatch, StudyProgress
from tunery.search.study.study import create_job_study, create_or_load

SPACE = "{adapter.rank: {choices: [8, 16]}}"
LOSS = "{validation/nll: minimize}"


class Lines(StudyObserver):
    """Keeps the lines that it is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.mark.parametrize(
    ("objective", "value", "said"),
    [
        ("validation/nll", 7.1316, "final 1/1: trial 5 with seed 1: validation/nll 7.1316  rank=8"),
        ("train_seconds", 75.0, "final 1/1: trial 5 with seed 1: train_seconds 1 min 15 s  rank=8"),
    ],
)
def test_a_final_that_has_ended_is_shown_with_its_metric(
    make: MakeProject, objective: str, value: float, said: str
) -> None:
    project = make(SPACE, search__objectives=f"{{{objective}: minimize}}", data__validation__fraction="0.1")
    study = optuna.create_study(study_name="s finals")
    known = {QUEUE_KEY: "5:1", "trial": 5, "seed": 1, "name": "rank=8"}
    study.add_trial(create_trial(value=value, user_attrs=known))
    observer = Lines()
    StudyProgress(project, observer).update(study)
    assert observer.lines == [said]


def test_the_time_of_a_command_that_is_killed_is_known_but_for_its_last_seconds(
    make: MakeProject, clock: Clock
) -> None:
    study = optuna.create_study()
    study.set_user_attr(ELAPSED, 100.0)
    watched = StudyProgress(make(SPACE), Lines())
    watched.begin(study)
    for _ in range(7):
        clock.now += 4.0
        watched.update(study)
    assert study.user_attrs[ELAPSED] == 100.0 + 24.0
    clock.now += 11.0
    watched.trial_step(0, 1, 10, 0.5)
    assert study.user_attrs[ELAPSED] == 100.0 + 39.0
    clock.now += 11.0
    watched.phase("scoring")
    assert study.user_attrs[ELAPSED] == 100.0 + 50.0


def test_only_the_command_notes_its_time(make: MakeProject, clock: Clock) -> None:
    study = optuna.create_study()
    worker = StudyProgress(make(SPACE))
    clock.now += 60.0
    worker.trial_step(0, 1, 10, 0.5)
    assert ELAPSED not in study.user_attrs


def test_a_study_and_its_finals_name_their_objectives(make: MakeProject) -> None:
    project = make(SPACE, search__objectives="{score: maximize, train_seconds: minimize}")
    storage = optuna.storages.InMemoryStorage()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's "experimental" is not for the user
        assert create_or_load(storage, project, "s", []).metric_names == ["score", "train_seconds"]
        finals = create_job_study(storage, "s finals", [queue.TrialJob("1:1")], "maximize", "score")
    assert finals.metric_names == ["score"]


def test_a_study_whose_creator_died_before_it_named_the_objectives_gets_the_names(
    make: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make(SPACE)
    storage = optuna.storages.InMemoryStorage()
    with monkeypatch.context() as before:
        before.setattr(optuna.Study, "set_metric_names", lambda *_: None)
        study = create_or_load(storage, project, "s", [])
    study.add_trial(create_trial(value=0.5, state=TrialState.COMPLETE))
    assert study.metric_names is None
    again = create_or_load(storage, project, "s", [])
    assert again.metric_names == ["score"]
    assert len(again.trials) == 1


def test_workers_are_numbered_as_they_appear(make: MakeProject) -> None:
    class Workers(StudyObserver):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def trial_began(self, number: int, name: str, worker: int) -> None:
            self.seen.append((number, worker))

    study = optuna.create_study()
    for key, worker in enumerate(["here:a", "here:b", "here:a"]):
        known = {QUEUE_KEY: key, queue.WORKER: worker, "name": "rank=8"}
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=known))
    observer = Workers()
    StudyProgress(make(SPACE), observer).update(study)
    assert observer.seen == [(0, 0), (1, 1), (2, 0)]


def test_seconds_are_noted_while_a_trial_runs_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    trial = optuna.create_study().ask()
    trial.set_user_attr(SECONDS, 7.0)
    watch = Stopwatch(trial, SECONDS)
    for second in range(1, 26):
        now[0] = 100.0 + second
        watch.note_now_and_then()
    assert trial.user_attrs[SECONDS] == 7.0 + 22.0  # at 11 and 22: a kill now forgets three seconds
    watch.note()
    assert trial.user_attrs[SECONDS] == 7.0 + 25.0


def test_of_two_processes_that_share_a_study_the_longer_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    study = optuna.create_study()
    first = Stopwatch(study, SEARCHED)
    now[0] = 130.0
    second = Stopwatch(study, SEARCHED)
    now[0] = 140.0
    first.note()
    second.note()
    assert study.user_attrs[SEARCHED] == 40.0
