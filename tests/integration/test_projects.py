"""The smoke run of every project's folder, from rows to a board, on a stand-in of its base's architecture."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from tests.integration.conftest import MakePlace, Place
from tests.stand_in import stand_in
from tests.unit.test_readme import shell_commands
from tunery.config.load import load_project

ROOT = Path(__file__).parents[2]
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
