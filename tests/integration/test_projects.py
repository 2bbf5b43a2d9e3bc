"""The smoke run of every project's folder, from rows to a board, on a stand-in of its base's architecture."""

from __future__ import annotations

import itertools
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from tests.integration.conftest import MakePlace, Place
from tests.integration.studies import assert_exact, begin, end, standing, trials_of, wait_for
from tests.stand_in import stand_in
from tests.unit.test_readme import shell_commands
from tunery.config.load import load_project
from tunery.search.study import queue

ROOT = Path(__file__).parents[2]
HEURISTIC = "hans_subsequence"  # a third of HANS: of all thirty subcases, the tables of 45 runs would take minutes
FOLDERS = sorted(file.parent.name for file in ROOT.glob("projects/*/smoke.yaml"))


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    """A copy of the projects, in which stand-ins are made and runs kept."""
    made = make_place("projects")
    shutil.copytree(ROOT / "projects", made.folder / "projects", ignore=shutil.ignore_patterns("world", "stand-in"))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_smoke_run_trains_searches_and_compares(place: Place, folder: str) -> None:
    stand_in().make(place.folder / "projects" / folder)
    project = load_project(place.folder / "projects" / folder / "smoke.yaml")
    commands = smoke_commands(ROOT / "projects" / folder / "README.md")
    for words in commands:
        outcome = place.tunery(*words)
        assert outcome.code == 0, f"{words}: {outcome.out[-2000:]}\n{outcome.err[-2000:]}"
        assert "Traceback" not in outcome.out + outcome.err
    kinds, table = ended(place, project.name), pd.read_csv(place.folder / "report" / folder / "comparison.csv")
    assert kinds["train", "FINISHED"] == len(commands) - 2
    assert kinds["study", "FINISHED"] == 1
    assert kinds["trial", "FINISHED"] >= 2
    assert {status for _, status in kinds} == {"FINISHED"}
    assert len(table) >= 2
    assert table.filter(regex="/(rougeL|acc)$").notna().any(axis=None)
    book = openpyxl.load_workbook(place.folder / "report" / f"{folder}.xlsx")
    assert {one.name for one in project.evaluation.answers} <= set(book.sheetnames)


def smoke_commands(page: Path) -> list[list[str]]:
    """The commands that a project's README gives for its smoke run, after the one that makes the stand-in."""
    found = [words[1:] for words in shell_commands(page) if words[0] == "tunery" and "smoke" in " ".join(words)]
    first, *further, search, board = [words[0] for words in found]
    assert (first, search, board) == ("train", "tune", "compare")
    assert set(further) <= {"train"}  # on from what the first one made
    return found


def ended(place: Place, name: str) -> Counter[tuple[str, str]]:
    """How many runs of each kind ended in each way, in a project's experiment."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=place.uri)
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id])
    return Counter((one.data.tags["tunery.kind"], one.info.status) for one in found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_of_five_methods_that_is_killed_once_ends_with_exactly_its_runs(
    tmp_path: Path, fresh_database: Path, runs: Callable[[Place], list[Any]]
) -> None:
    folder = tmp_path / "nli-opt"  # by whose name the stand-in is made
    shutil.copytree(ROOT / "projects" / "nli-opt", folder, ignore=shutil.ignore_patterns("stand-in"))
    shutil.copy2(fresh_database, folder / "mlflow.db")
    stand_in().make(folder)
    place, name = Place(folder), five_methods(folder)
    process = begin(place)
    try:
        wait_for(lambda: is_within_a_trial(place, name, complete=3), process, seconds=600)
        process.kill()
        process.wait()
    finally:
        end(process)
    assert 3 <= len(ended_trials(place, name)) < 45
    outcome = place.tunery("tune", "--project", ".")
    assert outcome.code == 0, outcome.err
    found = runs(place)
    assert_exact(place, found, 45, name)
    trials = [run.data for run in trials_of(found)]
    methods = ["context-distillation", "full", "icl", "lora", "recursive-context-distillation"]
    asked = {(one.tags["tunery.method"], size_of(one), one.tags["tunery.seed"]) for one in trials}
    assert asked == set(itertools.product(methods, ("2", "4", "8"), ("0", "1", "2")))
    assert {one.params["cfg.training.icl.examples"] == size_of(one) for one in trials if is_shown(one)} == {True}
    members = [key for key in trials[0].metrics if re.fullmatch(r"lm_eval/hans_\w+/acc", key)]
    assert f"lm_eval/{HEURISTIC}/acc" in members
    assert 5 < len(members) <= 11, "of ten subcases, those that have a dev item"


def five_methods(folder: Path) -> str:
    """Make smoke.yaml the project of its folder, with three sizes and seeds, few items and steps; its name."""
    tree = yaml.safe_load((folder / "smoke.yaml").read_text(encoding="utf-8"))
    tree["training"]["max_steps"], tree["evaluation"]["limit"] = 2, 4
    tree["evaluation"]["primary"] = {"nli": "acc", HEURISTIC: "acc"}
    tree["evaluation"]["tasks"] = ["nli", HEURISTIC]
    tree["search"]["repeats"] = 3
    tree["search"]["space"]["data.train.0.sample.rows"]["choices"] = [2, 4, 8]
    (folder / "project.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(tree["name"])


def ended_trials(place: Place, name: str) -> list[FrozenTrial]:
    return [one for one in standing(place, name).values() if one.state == TrialState.COMPLETE]


def is_within_a_trial(place: Place, name: str, complete: int) -> bool:
    """Whether some trials have ended and another one has a run in MLflow, so that a kill hits it."""
    running = [one for one in standing(place, name).values() if one.state == TrialState.RUNNING]
    return len(ended_trials(place, name)) >= complete and any(queue.RUN_ID in one.user_attrs for one in running)


def size_of(run: Any) -> str:
    return str(run.params["cfg.data.train.0.sample.rows"])


def is_shown(run: Any) -> bool:
    return bool(run.tags["tunery.method"] == "icl")
