"""Workers and their command are killed: the study ends exact all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import Place
from tests.integration.studies import (
    assert_adapters_load,
    assert_exact,
    begin,
    end,
    in_training,
    small_study,
    standing,
    wait_for,
    workers_of,
)
from tunery.search.space.space import QUEUE_KEY
from tunery.search.study import queue

Runs = Callable[[Place], list[Any]]
TRIALS = 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_and_then_a_killed_machine_leave_an_exact_study(
    place: Place, runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The moments at which a trial may be killed are in test_study_moments."""
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={"trials": TRIALS})
    process = begin(place, "--workers", "2")
    try:
        hit = wait_for(lambda: in_training(place), process)[0]
        os.kill(_pid(hit), signal.SIGKILL)
        wait_for(lambda: _is_replaced(place, hit), process)
        wait_for(lambda: _is_so_far(place, 1), process)
        for worker in workers_of(process):
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)  # all at once, as when the machine goes down
        process.kill()
        process.wait()
    finally:
        end(process)
    outcome = place.tunery("tune", "--project", ".", "--workers", "2")
    assert outcome.code == 0, outcome.err
    assert_exact(place, runs(place), TRIALS)
    again = standing(place)[hit.user_attrs[QUEUE_KEY]]
    assert again.user_attrs[queue.RUN_ID] == hit.user_attrs[queue.RUN_ID]
    assert 1 <= queue.retries(again) <= queue.MOST_RETRIES
    assert_adapters_load(place, tmp_path_factory.mktemp("adapters"))


def _is_so_far(place: Place, ended: int) -> bool:
    complete = sum(trial.state == TrialState.COMPLETE for trial in standing(place).values())
    return complete >= ended and bool(in_training(place))


def _is_replaced(place: Place, hit: FrozenTrial) -> bool:
    """Whether a trial that lost its worker is to be tried again, or is."""
    trial = standing(place)[hit.user_attrs[QUEUE_KEY]]
    return trial.number != hit.number


def _pid(trial: FrozenTrial) -> int:
    return int(trial.user_attrs[queue.WORKER].rpartition(":")[2])
