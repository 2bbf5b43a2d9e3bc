"""`mlflow run` on this repository, as the README says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.integration.conftest import Place, run
from tests.integration.in_process import as_own_process

ROOT = Path(__file__).parents[2]
Runs = Callable[[Place], list[Any]]


WORDS = ["run", str(ROOT), "-e", "train", "--env-manager", "local"]


def environment(place: Place) -> dict[str, str]:
    found = place.environment(MLFLOW_TRACKING_URI=place.uri)
    return {**found, "PATH": f"{Path(sys.executable).parent}:{found['PATH']}"}


def test_the_run_that_mlflow_made_is_the_run_of_the_training(place: Place, runs: Runs) -> None:
    parameters = ["-P", f"project={place.folder}", "-P", "adapter.rank=2", "--experiment-name", "mine"]
    command = [sys.executable, "-m", "mlflow", *WORDS, *parameters]
    outcome = run(command, place.folder, environment(place))
    assert outcome.code == 0, outcome.err
    found = [entry for entry in runs(place) if entry.data.tags.get("tunery.kind") != "base"]
    trained = [entry for entry in found if entry.data.tags.get("tunery.kind") == "train"]
    assert len(trained) == len(found) == 1, "MLflow's own run was left aside"
    assert trained[0].info.status == "FINISHED"
    assert trained[0].data.params["cfg.adapter.rank"] == "2"
    assert "lm_eval/world_facts/acc" in trained[0].data.metrics


@pytest.mark.parametrize("parameter", ["adapter.rnak=4", "project=nowhere", "data.train.0.source=missing.jsonl"])
def test_bad_input_leaves_no_run_running(place: Place, runs: Runs, parameter: str) -> None:
    from mlflow.cli import cli

    project = [] if parameter.startswith("project") else ["-P", f"project={place.folder}"]
    with as_own_process(place.folder, environment(place)):  # MLflow's own; what it calls is a process as ever
        outcome = CliRunner().invoke(cli, [*WORDS, *project, "-P", parameter])
    assert outcome.exit_code != 0
    assert [entry.info.status for entry in runs(place)] == ["FAILED"]


def test_every_entry_point_calls_a_verb_that_is_there() -> None:
    from tunery.cli.verbs import commands

    points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert {point["command"].split(" -m tunery ")[1].split()[0] for point in points.values()} <= set(commands.commands)
