"""A command is killed between two stores: what one knows already and the other not yet is told once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest

from tests.integration.conftest import Place
from tests.integration.in_process import Outcome
from tests.integration.studies import (
    SPACE,
    assert_adapters_load,
    assert_exact,
    begin,
    by_trial,
    end,
    small_study,
    standing,
    text,
    trials_of,
)
from tunery.search.study import queue

pytestmark = pytest.mark.slow

Runs = Callable[[Place], list[Any]]


# ---- traps: they are set in the process that is to be killed


def _kill_after(owner: type, name: str, concerns: Callable[..., bool], times: int = 1, *, before: bool = False) -> None:
    """The process dies as soon as a method has done its work for the last of so many times that concern the test.

    Args:
        before: Die when it is about to begin instead.
    """
    done, met = getattr(owner, name), iter(range(1, times + 1))

    @wraps(done)
    def then_die(self: Any, *words: Any, **named: Any) -> Any:
        found = None if before else done(self, *words, **named)
        if before and not concerns(self, *words, **named):
            return done(self, *words, **named)
        if concerns(self, *words, **named) and next(met) == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, then_die)


def _in_tracker(
    name: str, *, trial: str = "", kind: str = "trial", pruned: int | None = None, before: bool = False
) -> None:
    """Die after a method of the tracker of a trial, or of the study; `pruned` is the trial that the pruner ends."""
    import optuna

    from tunery.tracking.run import Tracker

    if pruned is not None:
        optuna.Trial.should_prune = lambda trial: trial.user_attrs["queue_key"] == pruned  # type: ignore[method-assign]
    _kill_after(Tracker, name, lambda tracker, *_, **__: _is(tracker, kind, trial), before=before)


def _is(tracker: Any, kind: str, trial: str) -> bool:
    return tracker.kind == kind and tracker.tags.get("tunery.trial", "") == trial


def _in_optuna(what: str, times: int = 2) -> None:
    """Die after Optuna has heard this of the second trial: an attribute, or a state."""
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState

    if what in TrialState.__members__:
        ending = TrialState[what]
        _kill_after(
            RDBStorage, "set_trial_state_values", lambda _, trial_id, state, values=None: state == ending, times
        )
    else:
        _kill_after(RDBStorage, "set_trial_user_attr", lambda _, trial_id, key, value: key == what, times)


def _in_mlflow(name: str, times: int = 2) -> None:
    """Die after MLflow has done this for the second trial."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _kill_after(SqlAlchemyStore, name, lambda *_, **__: True, times)


def _in_training(step: int) -> None:
    """Die in the midst of the second trial, when MLflow has this step."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def is_there(_: object, run_id: str, metrics: Any, *more: object, **named: object) -> bool:
        return any((metric.key, metric.step) == ("train/loss", step) for metric in metrics)

    _kill_after(SqlAlchemyStore, "log_batch", is_there, times=2)


def killed(place: Place, trap: Callable[[], None]) -> None:
    """Run `tunery tune` with a trap in it, which must have closed."""
    process = begin(place, trap=trap)
    try:
        assert process.wait(timeout=240) == -signal.SIGKILL, text(place)
    finally:
        end(process)


def gone_on_with(place: Place) -> Outcome:
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    return outcome


def test_a_trial_that_was_pruned_in_mlflow_alone_keeps_its_one_run(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 3, "pruner": "median"})
    killed(place, partial(_in_tracker, "_terminate", trial="1", pruned=1))
    (before,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert (before.info.status, "tunery.pruned" in before.data.tags) == ("FINISHED", True)

    gone_on_with(place)
    assert by_trial(runs(place)) == Counter({"0": 1, "1": 1, "2": 1})
    again = standing(place)[1]
    assert (again.state.name, again.user_attrs[queue.RUN_ID]) == ("PRUNED", before.info.run_id)


def test_a_trial_whose_pruning_mlflow_does_not_know_is_finished_there(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2, "pruner": "median"})
    # The storage knows, and the process dies on its way out of the trial's run.
    killed(place, partial(_in_tracker, "_terminate", trial="1", pruned=1, before=True))
    gone_on_with(place)
    (run,) = [run for run in trials_of(runs(place)) if run.data.tags["tunery.trial"] == "1"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunery.pruned"].startswith("step ")
    assert "tunery.failure" not in run.data.tags
    assert standing(place)[1].state.name == "PRUNED"
    assert not (place.folder / "home" / "runs" / run.info.run_id).exists(), "checkpoints of a run that has ended"


MOMENTS = {
    "taken": partial(_in_optuna, "RUNNING"),
    "MLflow alone knows its run": partial(_in_tracker, "_begin", trial="1"),
    "its run is known": partial(_in_optuna, queue.RUN_ID),
    "before its first checkpoint": partial(_in_training, 5),
    "after its first checkpoint": partial(_in_training, 15),
    "its adapter is being logged": partial(_in_mlflow, "create_logged_model"),
    "its adapter was logged": partial(_in_mlflow, "finalize_logged_model"),
    "its metrics are known": partial(_in_optuna, queue.METRICS),
    "complete in MLflow alone": partial(_in_tracker, "_terminate", trial="1"),
    "complete": partial(_in_optuna, "COMPLETE"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_trial_whose_process_is_killed_keeps_its_one_run(
    place: Place, runs: Runs, tmp_path_factory: pytest.TempPathFactory, moment: str
) -> None:
    small_study(place, search={"trials": 2})
    killed(place, MOMENTS[moment])
    before = {run.info.run_id for run in trials_of(runs(place))}
    gone_on_with(place)
    assert_exact(place, runs(place), 2)
    assert before <= {run.info.run_id for run in trials_of(runs(place))}
    assert_adapters_load(place, tmp_path_factory.mktemp("adapters"))


def test_the_studys_run_is_found_again_by_who_was_not_told_of_it(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 1})
    killed(place, partial(_in_tracker, "_begin", kind="study"))
    (orphan,) = runs(place)
    assert orphan.info.status == "RUNNING"

    gone_on_with(place)
    (parent,) = [run for run in runs(place) if run.data.tags["tunery.kind"] == "study"]
    assert (parent.info.run_id, parent.info.status) == (orphan.info.run_id, "FINISHED")
    assert parent.data.params["cfg.adapter.rank"] == "4"
    assert_exact(place, runs(place), 1)


def test_a_total_may_change_before_the_study_knows_its_run(place: Place, runs: Runs) -> None:
    small_study(place, search={"trials": 2})
    killed(place, partial(_in_tracker, "log_config", kind="study"))
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
