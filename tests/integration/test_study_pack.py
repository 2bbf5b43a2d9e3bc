"""A study whose trials are trained together ends as one whose trials are trained one after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import MakePlace, Place
from tests.integration.studies import (
    SEARCH,
    assert_adapters_load,
    assert_exact,
    begin,
    end,
    in_training,
    results,
    small_study,
    standing,
    text,
    trials_of,
    wait_for,
)
from tunery.runs import trial
from tunery.search.study import queue

Runs = Callable[[Place], list[Any]]
# Draws that depend on a trial's number alone, in which order the trials may end.
RANDOM = {**SEARCH, "sampler": "random"}


def test_a_packed_study_has_the_results_of_one_that_is_not(make_place: MakePlace, runs: Runs) -> None:
    found = {}
    for pack in ("off", "3"):
        place = make_place(f"pack-{pack}")
        small_study(place, search=RANDOM)
        outcome = place.tunery("tune", "--project", ".", "--search.pack", pack)
        assert outcome.code == 0, outcome.out + outcome.err
        assert_exact(place, runs(place), 4)
        found[pack] = results(place)
    assert "up to 3 trials were trained together" in outcome.out
    assert {run.data.tags.get("tunery.pack") for run in trials_of(runs(place))} == {"3"}
    for key, (settings, values, metrics) in found["off"].items():
        assert found["3"][key][0] == settings
        assert found["3"][key][1] == pytest.approx(values, rel=1e-4)
        assert found["3"][key][2] == pytest.approx(metrics, rel=1e-4)


def test_the_finals_are_packed_too_and_there_is_a_winner(place: Place, runs: Runs) -> None:
    small_study(place, search={**RANDOM, "trials": 3, "finalists": 1, "seeds": 2})
    outcome = place.tunery("tune", "--project", ".", "--search.pack", "auto")
    assert outcome.code == 0, outcome.out + outcome.err
    assert "registered as models:/small/1" in outcome.out
    assert (outcome.out + outcome.err).count("finals: ") == 1
    ended = [run for run in trials_of(runs(place)) if run.info.status == "FINISHED"]
    # Two seeds of the best trial, and of the project's own settings if these are another.
    assert len([run for run in ended if ":" in run.data.tags["tunery.trial"]]) in (2, 4)


def test_a_trial_that_a_library_fails_leaves_the_base_to_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, bases = trial.train_adapter, []

    def failing(tuned: Any, *args: Any, **kwargs: Any) -> Any:
        bases.append(tuned.model.get_input_embeddings().weight)
        if len(bases) == 2:
            raise AttributeError("of a library")
        return train(tuned, *args, **kwargs)

    monkeypatch.setattr(trial, "train_adapter", failing)
    small_study(place, search={**RANDOM, "trials": 4})
    outcome = place.tunery("tune", "--project", ".", "--search.pack", "2")
    assert "AttributeError: of a library" in outcome.out
    assert "up to 2 trials were trained together" in outcome.out
    assert len(bases) == 4
    assert all(one is bases[0] for one in bases)


def test_a_pack_that_cannot_be_makes_nothing(place: Place, runs: Runs) -> None:
    small_study(place, adapter={"dora": True})
    outcome = place.tunery("tune", "--project", ".", "--search.pack", "2")
    assert outcome.code == 2
    assert "search.pack is 2, but must be off with adapter.dora: True" in " ".join((outcome.out + outcome.err).split())
    assert runs(place) == []
    assert place.tunery("tune", "--project", ".", "--search.pack", "auto", "--search.trials", "1").code == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_pack_that_ends_early_is_resumed_to_an_exact_study(
    place: Place, runs: Runs, number: signal.Signals, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small_study(place, training={"max_steps": 60, "checkpoints": 6}, search={**RANDOM, "trials": 5})
    process = begin(place, "--search.pack", "3")
    try:
        wait_for(lambda: len(in_training(place)) == 3, process)
        process.send_signal(number)
        process.wait(timeout=120)
    finally:
        end(process)
    if number == signal.SIGINT:
        assert process.returncode == 1
        assert "Run the same command to resume it" in text(place)
        assert "Traceback" not in text(place)
        assert "RUNNING" not in {run.info.status for run in runs(place)}
    outcome = place.tunery("tune", "--project", ".", "--search.pack", "3")
    assert outcome.code == 0, outcome.err
    assert_exact(place, runs(place), 5)
    assert {queue.retries(trial) for trial in standing(place).values()} == ({0} if number == signal.SIGINT else {0, 1})
    assert_adapters_load(place, tmp_path_factory.mktemp("adapters"))
