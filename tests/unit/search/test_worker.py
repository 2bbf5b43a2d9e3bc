"""What a worker does with a trial that cannot be run: end it, end the study, or leave it to another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tests.unit.search.conftest import MakeProject

from tunery.errors import ConfigError, DataError, Infeasible, InputError, RunHeld, StoreAway, TrackingError
from tunery.records.runs import StepMetrics
from tunery.search import worker
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.progress import SECONDS, Stopwatch, StudyProgress
from tunery.search.worker import Worker
from tunery.search.workers.pool import StopCount

SPACE = "{adapter.rank: {choices: [8, 16]}}"
Start = Callable[[optuna.Study, Callable[[optuna.Trial], float]], None]


@pytest.fixture
def study() -> optuna.Study:
    made = optuna.create_study(direction="maximize")
    queue.enqueue_trials(made, [queue.TrialJob(0, {"adapter.rank": 16}), queue.TrialJob(1), queue.TrialJob(2)])
    return made


@pytest.fixture
def work(make: MakeProject, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(worker, "_SECONDS_TO_RELEASE", 0.0)
    project = make(SPACE)
    made: Any = Worker(project, None, "parent", StudyProgress(project))  # type: ignore[arg-type]
    start: Start = made.work
    return start


def failing(number: int, error: Exception, once: bool = False) -> Callable[[optuna.Trial], float]:
    """A run that raises in one trial, always or the first time."""
    raised: list[int] = []

    def run(trial: optuna.Trial) -> float:
        if trial.user_attrs[QUEUE_KEY] == number and not (once and raised):
            raised.append(number)
            raise error
        return 1.0

    return run


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("error", [ConfigError("search", "x"), TrackingError("store", "x")])
def test_what_every_trial_would_meet_ends_the_study_and_loses_nothing(
    study: optuna.Study, work: Start, number: int, error: InputError
) -> None:
    with pytest.raises(type(error)):
        work(study, failing(number, error))
    assert number in {trial.user_attrs[QUEUE_KEY] for trial in queue.unfinished(study)}
    work(study, lambda trial: 1.0)
    assert {trial.state for trial in queue.current_trials(study).values()} == {TrialState.COMPLETE}


def test_rows_that_the_project_itself_cannot_use_end_the_study(study: optuna.Study, work: Start) -> None:
    with pytest.raises(DataError):
        work(study, failing(0, DataError("rows.jsonl", "x")))
    work(study, lambda trial: 1.0)
    assert {trial.state for trial in queue.current_trials(study).values()} == {TrialState.COMPLETE}


@pytest.mark.parametrize(
    ("error", "state", "failure"),
    [
        (Infeasible("no"), TrialState.PRUNED, "infeasible"),
        (DataError("rows.jsonl", "x"), TrialState.FAIL, "error"),
        (ZeroDivisionError(), TrialState.FAIL, "error"),
    ],
)
def test_what_concerns_one_trial_is_its_result(
    study: optuna.Study, work: Start, error: Exception, state: TrialState, failure: str
) -> None:
    work(study, failing(1, error))
    ended = queue.current_trials(study)
    assert (ended[1].state, ended[1].user_attrs[queue.FAILURE]) == (state, failure)
    assert [ended[number].state for number in (0, 2)] == [TrialState.COMPLETE] * 2


def test_a_run_that_its_old_worker_still_holds_is_waited_for(study: optuna.Study, work: Start) -> None:
    work(study, failing(1, RunHeld("run x", "held"), once=True))
    assert {trial.state for trial in queue.current_trials(study).values()} == {TrialState.COMPLETE}
    assert queue.retries(queue.current_trials(study)[1]) == 0


def test_a_trial_goes_on_when_mlflow_is_back(study: optuna.Study, work: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr("tunery.search.worker.wait_until_back", waited.append)
    work(study, failing(1, StoreAway("postgresql://db", "MLflow: connection refused"), once=True))
    assert {trial.state for trial in queue.current_trials(study).values()} == {TrialState.COMPLETE}
    assert (len(waited), queue.retries(queue.current_trials(study)[1])) == (1, 1)


def test_a_store_that_never_answers_one_request_does_not_keep_a_study_for_ever(
    study: optuna.Study, work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunery.search.worker.wait_until_back", lambda store: None)
    work(study, failing(1, StoreAway("http://server", "MLflow: 500")))
    assert queue.current_trials(study)[1].state == TrialState.FAIL


def test_a_trial_says_that_it_is_trained(study: optuna.Study, make: MakeProject) -> None:
    project = make(SPACE)
    worker = Worker(project, None, "parent", StudyProgress(project))  # type: ignore[arg-type]
    trial = study.ask()
    worker.stopwatch = Stopwatch(trial, SECONDS)
    report = worker.steps(trial, project, prune=False)
    assert queue.TRAINED not in trial.user_attrs
    for step in (1, 2):
        report(StepMetrics(step, {"train/loss": 1.0}))
    assert trial.user_attrs[queue.TRAINED] is True


def test_workers_of_one_host_name_and_process_id_are_told_apart(make: MakeProject) -> None:
    project = make(SPACE)
    names = {Worker(project, None, "parent", StudyProgress(project)).name for _ in range(2)}  # type: ignore[arg-type]
    assert len(names) == 2
    assert {name.rpartition(":")[2] for name in names} == {str(os.getpid())}


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_stops_workers_as_ctrl_c_does_unless_it_is_ignored(nohup: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        with StopCount() as stop:
            if nohup or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:  # else it would end the tests
                signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (stop.count, stop.name) == ((0, "") if nohup else (1, "SIGHUP"))
