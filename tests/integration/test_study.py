"""`tunery tune` from a project to a winner, as a user sees it and as MLflow keeps it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest

from tests.integration import conftest
from tests.integration.conftest import Place
from tests.integration.in_process import Outcome
from tests.integration.studies import SPACE, by_trial, load, standing, trials_of
from tunery.search.study import queue

ROOT = Path(__file__).parents[2]
Runs = Callable[[Place], list[Any]]
TRIALS, FINALISTS, SEEDS = 3, 1, 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A study that was run once; the tests after it look at it, and go on with it."""
    made = Place(tmp_path_factory.mktemp("study"))
    made.rows()
    made.project(
        training={"max_steps": 12, "learning_rate": 1e-3},
        evaluation={"tasks": ["world_facts"], "limit": 24, "generation": {"prompts": 0}},
        search={"trials": TRIALS, "finalists": FINALISTS, "seeds": SEEDS, "pruner": "none", "space": SPACE},
    )
    return made


@pytest.fixture(scope="module")
def outcome(place: Place) -> Outcome:
    return place.process("tune", "--project", ".")


@pytest.fixture
def store(place: Place, outcome: Outcome, runs: Runs) -> list[Any]:
    """Every run after the study."""
    assert outcome.code == 0, outcome.err
    return runs(place)


def parent_of(found: list[Any]) -> Any:
    (parent,) = [run for run in found if run.data.tags["tunery.kind"] == "study"]
    return parent


def searched(found: list[Any]) -> list[Any]:
    return [run for run in trials_of(found) if "tunery.finalist" not in run.data.tags]


def finals(found: list[Any]) -> list[Any]:
    return [run for run in trials_of(found) if "tunery.finalist" in run.data.tags]


def files(place: Place, run: Any, under: str = "") -> set[str]:
    client = mlflow.MlflowClient(tracking_uri=place.uri)
    return {entry.path for entry in client.list_artifacts(run.info.run_id, under)}


def test_the_command_ends_with_a_verdict(outcome: Outcome, store: list[Any]) -> None:
    said = " ".join(outcome.out.split())
    assert "3/3" in said
    assert "on locked items" in said
    assert "Traceback" not in outcome.err


def test_a_study_is_one_finished_run_with_a_child_for_each_trial(store: list[Any]) -> None:
    parent = parent_of(store)
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in trials_of(store)} == {parent.info.run_id}
    assert {run.info.status for run in trials_of(store)} == {"FINISHED"}
    assert by_trial(searched(store)) == Counter({str(key): 1 for key in range(TRIALS)})


def test_the_first_trial_has_the_projects_own_settings(store: list[Any]) -> None:
    (own,) = [run for run in searched(store) if run.data.tags["tunery.trial"] == "0"]
    assert (own.data.params["cfg.training.learning_rate"], own.data.params["cfg.adapter.rank"]) == ("0.001", "4")


def test_finalists_and_the_projects_own_settings_are_trained_with_other_seeds(store: list[Any]) -> None:
    by_entrant = Counter(run.data.tags["tunery.finalist"] for run in finals(store))
    assert set(by_entrant.values()) == {SEEDS}
    assert FINALISTS <= len(by_entrant) <= FINALISTS + 1
    assert "0" in by_entrant
    assert {run.data.tags["tunery.seed"] for run in finals(store)} == {"1", "2"}


def test_trials_see_dev_items_only(place: Place, store: list[Any], tmp_path: Path) -> None:
    for run in searched(store):
        assert _splits(place, run, "samples", tmp_path) == {"dev"}
        assert not [key for key in run.data.metrics if key.startswith("locked/")]
        assert "samples/locked" not in files(place, run, "samples")


def test_finalists_alone_have_scores_on_locked_items(place: Place, store: list[Any], tmp_path: Path) -> None:
    for run in finals(store):
        assert "locked/score" in run.data.metrics
        assert _splits(place, run, "samples/locked", tmp_path) == {"locked"}


def _splits(place: Place, run: Any, under: str, folder: Path) -> set[str]:
    """Of the items that a run's samples hold, by their own column."""
    client = mlflow.MlflowClient(tracking_uri=place.uri)
    (path,) = [path for path in files(place, run, under) if path.endswith("world_facts.parquet")]
    target = folder / run.info.run_id
    target.mkdir(exist_ok=True)
    return set(pandas.read_parquet(client.download_artifacts(run.info.run_id, path, str(target)))["split"])


def test_the_winner_is_registered_once(place: Place, store: list[Any]) -> None:
    client = mlflow.MlflowClient(tracking_uri=place.uri)
    (version,) = client.search_model_versions("name = 'small'")
    winner = parent_of(store).data.tags["tunery.winner"]
    run = client.get_run(version.run_id or client.get_logged_model(version.model_id).source_run_id)
    assert run.data.tags["tunery.finalist"] == winner
    assert run.data.tags["tunery.registered_version"] == "small/1"


def test_report_table_and_plots_are_in_the_studys_run(place: Place, store: list[Any]) -> None:
    parent = parent_of(store)
    assert {"report.md", "trials.csv", "trials.json", "plots"} <= files(place, parent)
    assert {"plots/study.html", "plots/history.png"} <= files(place, parent, "plots"), files(place, parent, "plots")
    assert "locked" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["trials/complete"] == TRIALS


def test_the_same_command_again_does_nothing_new(place: Place, store: list[Any], runs: Runs) -> None:
    before = _what_there_is(place, runs)
    began = time.monotonic()
    again = place.tunery("tune", "--project", ".")
    assert again.code == 0, again.err
    assert time.monotonic() - began < 90
    assert _what_there_is(place, runs) == before
    assert "Loading" not in again.out


def _what_there_is(place: Place, runs: Runs) -> Any:
    client = mlflow.MlflowClient(tracking_uri=place.uri)
    versions = [version.version for version in client.search_model_versions("name = 'small'")]
    trials = {name: len(load(place, name).get_trials()) for name in ("small", "small finals", "small end")}
    return versions, trials, sorted((run.info.run_id, run.info.status) for run in runs(place))


def test_a_higher_total_runs_only_what_is_missing(place: Place, store: list[Any], runs: Runs) -> None:
    before = {run.info.run_id for run in searched(runs(place))}
    more = place.tunery("tune", "--project", ".", "--trials", str(TRIALS + 1))
    assert more.code == 0, more.err
    after = searched(runs(place))
    assert len({run.info.run_id for run in after} - before) == 1
    assert before <= {run.info.run_id for run in after}
    assert by_trial(after) == Counter({str(key): 1 for key in range(TRIALS + 1)})
    assert [queue.retries(trial) for trial in standing(place).values()] == [0] * (TRIALS + 1)


@pytest.mark.slow
def test_mlflow_run_searches_in_the_run_that_mlflow_made(tmp_path: Path, runs: Runs) -> None:
    place = Place(tmp_path)
    place.rows()
    place.project(
        evaluation={"tasks": [], "generation": {"prompts": 0}},
        search={"trials": 2, "finalists": 0, "pruner": "none", "objectives": {"validation/nll": "minimize"}}
        | {"space": SPACE, "storage": f"sqlite:///{tmp_path}/optuna.db"},  # not where MLflow runs it: in the checkout
    )
    words = ["-e", "tune", "--env-manager", "local", "--experiment-name", "mine", "-P", f"project={place.folder}"]
    environment = place.environment(MLFLOW_TRACKING_URI=place.uri)
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), *words]
    outcome = conftest.run(command, place.folder, {**environment, "PATH": path})
    assert outcome.code == 0, outcome.err
    found = runs(place)
    assert len(found) == 3, "MLflow's own run was left aside"
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len({run.info.experiment_id for run in found}) == 1
    assert parent_of(found).data.tags["mlflow.project.entryPoint"] == "tune"
