"""A command is killed between two stores: what one knows already and the other not yet is told once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Outcome, Place
from tests.integration.studies import SPACE, assert_exact, by_trial, small_study, standing, trials_of
from tunery.search.study import queue

pytestmark = pytest.mark.slow

Runs = Callable[[Place], list[Any]]

_KILL_AFTER = """
import functools, os, signal, sys
import optuna
from tunery.tracking.run import Tracker

def kill_after(name, concerns):
    done = getattr(Tracker, name)

    @functools.wraps(done)
    def then_die(self, *words, **named):
        found = done(self, *words, **named)
        if concerns(self):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(Tracker, name, then_die)

def is_trial(number):
    return lambda tracker: tracker.kind == "trial" and tracker._tags["tunery.trial"] == number

def prune(number):
    optuna.Trial.should_prune = lambda trial: trial.user_attrs["queue_key"] == number
"""
_RUN = "\nfrom tunery.cli import main\nmain()\n"


def killed(place: Place, *lines: str) -> None:
    """Run `tunery tune` with a trap in it, which must have closed."""
    words = [sys.executable, "-c", "\n".join([_KILL_AFTER, *lines, _RUN]), "tune", "--project", "."]
    done = subprocess.run(words, cwd=place.folder, env=place.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stdout + done.stderr


def gone_on_with(place: Place) -> Outcome:
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    return outcome


def test_a_trial_that_was_pruned_in_mlflow_alone_keeps_its_one_run(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 3, "pruner": "median"})
    killed(place, "prune(1)", "kill_after('_terminate', is_trial('1'))")
    (before,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert (before.info.status, "tunery.pruned" in before.data.tags) == ("FINISHED", True)

    gone_on_with(place)
    assert by_trial(runs(place)) == Counter({"0": 1, "1": 1, "2": 1})
    again = standing(place)[1]
    assert (again.state.name, again.user_attrs[queue.RUN_ID]) == ("PRUNED", before.info.run_id)


def test_a_trial_whose_pruning_mlflow_does_not_know_is_finished_there(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2, "pruner": "median"})
    # The storage knows, and the process dies on its way out of the trial's run.
    killed(place, "prune(1)", "kill_after('_release_signals', is_trial('1'))")
    gone_on_with(place)
    (run,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunery.pruned"].startswith("step ")
    assert "tunery.failure" not in run.data.tags
    assert standing(place)[1].state.name == "PRUNED"
    assert not (place.folder / "home" / "runs" / run.info.run_id).exists(), "checkpoints of a run that has ended"


def test_a_trial_that_was_complete_in_mlflow_alone_keeps_its_one_run(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2})
    killed(place, "kill_after('_terminate', is_trial('1'))")
    gone_on_with(place)
    assert_exact(place, runs(place), 2)


def test_the_studys_run_is_found_again_by_who_was_not_told_of_it(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 1})
    killed(place, "kill_after('_create', lambda tracker: tracker.kind == 'study')")
    (orphan,) = runs(place)
    assert orphan.info.status == "RUNNING"

    gone_on_with(place)
    (parent,) = [run for run in runs(place) if run.data.tags["tunery.kind"] == "study"]
    assert (parent.info.run_id, parent.info.status) == (orphan.info.run_id, "FINISHED")
    assert parent.data.params["cfg.adapter.rank"] == "4"
    assert_exact(place, runs(place), 1)


def test_a_total_may_change_before_the_study_knows_its_run(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2})
    killed(place, "kill_after('log_config', lambda tracker: tracker.kind == 'study')")
    small_study(place, search={"trials": 1})
    gone_on_with(place)
    assert_exact(place, runs(place), 1)


def test_settings_that_go_not_together_have_a_run_that_says_so(place: Place, runs: Runs) -> None:
    own = ["q_proj", "v_proj"]
    small_study(
        place,
        search={"trials": 2, "sampler": "grid", "space": {"adapter.target_modules": {"choices": [own, []]}}},
    )
    gone_on_with(place)
    (run,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert (run.info.status, run.data.tags["tunery.failure"]) == ("FAILED", "infeasible")
    assert "at least one name" in run.data.tags["mlflow.note.content"]
    assert run.data.params["cfg.adapter.target_modules"] == "[]"
    trial = standing(place)[1]
    assert (trial.user_attrs[queue.FAILURE], trial.user_attrs[queue.RUN_ID]) == ("infeasible", run.info.run_id)


def test_edited_files_are_noticed_once_a_trial_has_read_them(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2, "space": SPACE, "known_good": ["good.yaml"]})
    good = place.folder / "good.yaml"
    good.write_text("[]")
    (place.folder / "rows.jsonl").write_text("no rows\n" * 20)
    assert place.tunery("tune", "--project", ".").code == 2
    place.rows(24)  # what could not be read is mended
    assert place.tunery("tune", "--project", ".", "--trials", "1").code == 0

    place.rows(25)
    refused = place.tunery("tune", "--project", ".")
    assert refused.code == 2
    assert "the content of data rows.jsonl was " in " ".join(refused.err.split())
    place.rows(24)
    good.write_text("- {adapter.rank: 8, training.learning_rate: 1.0e-3}")
    refused = place.tunery("tune", "--project", ".")
    assert refused.code == 2
    assert "search.known_good, configuration 0 is new" in " ".join(refused.err.split())
    assert {run.info.status for run in runs(place)} == {"FINISHED"}
    good.write_text("[]  # a comment")
    gone_on_with(place)
