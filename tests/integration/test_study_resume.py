"""A study that is stopped, killed or out of time resumes what is missing, and ends as if nothing had happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.integration.conftest import Place
from tests.integration.studies import (
    SEARCH,
    assert_exact,
    begin,
    belonging_to,
    end,
    in_training,
    load,
    results,
    small_study,
    standing,
    text,
    trials_of,
    wait_for,
    workers_of,
)
from tests.integration.warm import Command
from tunery.search.study import queue

Runs = Callable[[Place], list[Any]]
# Long enough to be met in the middle, also on a slow machine.
LONG = {"max_steps": 60, "checkpoints": 6}


@contextmanager
def stopped_in_trial(place: Place, trial: int, number: signal.Signals, *words: str) -> Iterator[Command]:
    """A command that got a signal in the middle of a trial's training, and has ended."""
    process = begin(place, *words)
    try:
        wait_for(lambda: in_training(place, trial), process)
        process.send_signal(number)
        process.wait(timeout=120)
        yield process
    finally:
        end(process)


def statuses(runs: list[Any]) -> set[str]:
    return {run.info.status for run in runs}


@pytest.mark.slow
def test_an_interrupted_study_ends_as_one_that_was_not(place: Place, runs: Runs) -> None:
    small_study(place, training=LONG)
    with stopped_in_trial(place, 2, signal.SIGINT) as process:
        assert process.returncode == 1
    said = text(place)
    assert "2 trials are left" in said
    assert "Run the same command to resume it" in said
    assert "Traceback" not in said
    assert "RUNNING" not in statuses(runs(place))
    assert standing(place)[2].state == TrialState.WAITING

    assert place.tunery("tune", "--project", ".").code == 0
    assert_exact(place, runs(place), 4)
    assert queue.retries(standing(place)[2]) == 0

    whole = place.tunery("tune", "--project", ".", "--study", "whole")
    assert whole.code == 0, whole.err
    assert results(place) == results(place, "whole")


@pytest.mark.slow
def test_a_killed_command_is_gone_on_with_in_the_same_runs(place: Place, runs: Runs) -> None:
    small_study(place, training=LONG, search={"trials": 3})
    with stopped_in_trial(place, 1, signal.SIGKILL):
        begun = standing(place)[1].user_attrs[queue.RUN_ID]
    before = {run.info.run_id for run in runs(place)}
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    assert_exact(place, runs(place), 3)
    again = standing(place)[1]
    assert (again.user_attrs[queue.RUN_ID], queue.retries(again)) == (begun, 1)
    assert before <= {run.info.run_id for run in runs(place)}
    assert len([run for run in runs(place) if run.data.tags["tunery.kind"] == "study"]) == 1


@pytest.mark.slow
def test_two_workers_stop_at_checkpoints_and_go_on(place: Place, runs: Runs) -> None:
    small_study(place, training=LONG)
    process = begin(place, "--workers", "2")
    try:
        wait_for(lambda: len(in_training(place)) == 2, process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
        assert process.returncode == 1
    finally:
        end(process)
    assert "trials are left. Run the same command to resume them" in text(place)
    assert "Traceback" not in text(place)
    assert "RUNNING" not in statuses(runs(place))
    assert belonging_to(place) == []
    begun = {trial.user_attrs[queue.RUN_ID] for trial in queue.unfinished(load(place)) if _begun(trial)}
    assert len(begun) == 2

    outcome = place.tunery("tune", "--project", ".", "--workers", "2")
    assert outcome.code == 0, outcome.err
    assert_exact(place, runs(place), 4)
    assert begun <= {run.info.run_id for run in trials_of(runs(place))}
    assert all(queue.retries(trial) == 0 for trial in standing(place).values())


def _begun(trial: Any) -> bool:
    return queue.RUN_ID in trial.user_attrs


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_second_ctrl_c_stops_at_once_and_loses_no_trial(place: Place, runs: Runs, workers: str) -> None:
    small_study(place, training={"max_steps": 400, "checkpoints": 40}, search={"trials": 2})
    process = begin(place, "--workers", workers)
    try:
        wait_for(lambda: in_training(place), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        process.wait(timeout=90)
        assert time.monotonic() - asked < 60
        assert process.returncode != 0
    finally:
        end(process)
    assert belonging_to(place) == []
    assert "RUNNING" not in statuses(runs(place))
    assert not load(place).get_trials(states=(TrialState.RUNNING,))
    assert len(queue.unfinished(load(place))) == 2


@pytest.mark.slow
def test_the_same_command_does_only_what_a_higher_total_adds(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2})
    assert place.tunery("tune", "--project", ".").code == 0
    first = {run.info.run_id for run in trials_of(runs(place))}
    assert place.tunery("tune", "--project", ".", "--trials", "3").code == 0
    assert_exact(place, runs(place), 3)
    assert len({run.info.run_id for run in trials_of(runs(place))} - first) == 1
    assert place.tunery("tune", "--project", ".", "--trials", "1").code == 0
    assert_exact(place, runs(place), 3)


@pytest.mark.slow
def test_the_time_limit_is_a_total_and_a_larger_one_goes_on(place: Place, runs: Runs) -> None:
    small_study(place, training={"max_steps": 2000, "checkpoints": 20}, search={"trials": 2})
    outcome = place.tunery("tune", "--project", ".", "--timeout", "10")
    assert outcome.code == 0, outcome.err
    assert "RUNNING" not in statuses(runs(place))
    (begun,) = trials_of(runs(place))
    assert standing(place)[0].state == TrialState.WAITING
    assert load(place).user_attrs["search_seconds"] >= 10

    outcome = place.tunery("tune", "--project", ".", "--timeout", "10")
    assert outcome.code == 0, outcome.err
    (again,) = trials_of(runs(place))
    assert again.info.end_time == begun.info.end_time, "it ran although its time was up"

    more = str(load(place).user_attrs["search_seconds"] + 15)
    outcome = place.tunery("tune", "--project", ".", "--timeout", more)
    assert outcome.code == 0, outcome.err
    longer = next(run for run in trials_of(runs(place)) if run.info.run_id == begun.info.run_id)
    assert longer.info.end_time > begun.info.end_time


@pytest.mark.parametrize(
    ("failure", "sections"),
    [
        ("nan", {"search": {"space": {"training.learning_rate": {"choices": [1.0e-3, 1.0e37]}}}}),
        pytest.param(
            "timeout",
            {"search": {"space": {"training.max_steps": {"choices": [2, 5000]}}, "timeout_seconds": 15}},
            marks=pytest.mark.slow,
        ),
        ("infeasible", {"search": {"space": {"training.micro_batch_size": {"choices": [2, 512]}}, "memory": "1 GiB"}}),
    ],
)
def test_what_settings_bring_about_is_recorded_and_the_study_goes_on(
    place: Place, runs: Runs, failure: str, sections: dict[str, Any]
) -> None:
    own = {"training.max_steps": {"max_steps": 2}}
    (key,) = sections["search"]["space"]
    steady = {"max_steps": 8, "learning_rate": 1e-3, "scheduler": "constant", "warmup_ratio": 0}
    small_study(
        place,
        adapter={"target_modules": "all-linear"},
        training={**steady, **own.get(key, {})},
        search={**SEARCH, "sampler": "grid", "trials": 2, **sections["search"]},
    )
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    there = standing(place)
    assert there[0].state == TrialState.COMPLETE
    assert there[1].state == TrialState.PRUNED, "the sampler must be told"
    assert there[1].user_attrs[queue.FAILURE] == failure
    assert there[1].user_attrs[queue.REASON]
    (run,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert (run.info.status, run.data.tags["tunery.failure"]) == ("FAILED", failure)
    assert f"failed ({failure})" in outcome.out or failure in outcome.out


@pytest.mark.slow
def test_a_trial_that_fails_by_itself_is_recorded_and_not_repeated(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2, "memory": "1 MiB"})
    first = place.tunery("tune", "--project", ".")
    assert {trial.user_attrs[queue.FAILURE] for trial in standing(place).values()} == {"infeasible"}
    count = len(runs(place))
    assert place.tunery("tune", "--project", ".").code == first.code
    assert len(runs(place)) == count


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_a_study_like_ctrl_c(place: Place, runs: Runs, number: signal.Signals) -> None:
    small_study(place, training=LONG, search={"trials": 2})
    with stopped_in_trial(place, 0, number) as process:
        assert process.returncode == 1
    assert "RUNNING" not in statuses(runs(place))
    assert place.tunery("tune", "--project", ".").code == 0
    assert_exact(place, runs(place), 2)


@pytest.mark.slow
def test_a_command_killed_with_two_workers_takes_them_along(place: Place, runs: Runs) -> None:
    small_study(place, training=LONG)
    process = begin(place, "--workers", "2")
    try:
        wait_for(lambda: in_training(place), process)
        assert len(workers_of(process)) == 2
        process.kill()
        process.wait()
        wait_for_none(place)
    finally:
        end(process)
    outcome = place.tunery("tune", "--project", ".", "--workers", "2")
    assert outcome.code == 0, outcome.err
    assert_exact(place, runs(place), 4)


def wait_for_none(place: Place, seconds: float = 60.0) -> None:
    """Workers follow the command: none of them may stay."""
    until = time.monotonic() + seconds
    while belonging_to(place):
        assert time.monotonic() < until, "workers outlive their command"
        time.sleep(0.2)
