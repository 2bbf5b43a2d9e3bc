"""The tutorial, as its readers follow it: its files are written and its commands run, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from tests.integration import warm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
FENCE = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of the page: a file to write, or commands to run where it has no title."""

    text: str
    title: str | None


def steps() -> Iterator[Step]:
    for block in FENCE.finditer(PAGE.read_text(encoding="utf-8")):
        if block["title"] or block["language"] == "bash":
            yield Step(block["text"], block["title"])


def environment(folder: Path, programs: Path) -> Mapping[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), clean["PATH"]])
    return {**clean, "PATH": path, "TUNERY_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}


def follow(step: Step, folder: Path, environment: Mapping[str, str]) -> str:
    """Write the file or run the commands, and return what they printed."""
    if step.title is not None:
        (folder / step.title).parent.mkdir(exist_ok=True)
        (folder / step.title).write_text(step.text, encoding="utf-8")
        return ""
    sys.stdout.write(f"$ {step.text}")  # shown when a step fails
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.text],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, f"{step.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_ends_with_the_champion_that_it_promises(tmp_path: Path) -> None:
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "quickstart").symlink_to(ROOT / "projects" / "quickstart")
    with warm.programs() as programs:
        printed = "".join(follow(step, tmp_path, environment(tmp_path, programs)) for step in steps())

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    trained = client.get_run(client.get_model_version("answers", "1").run_id)
    assert trained.data.metrics["delta/exam/acc"] > 0.2
    assert int(client.get_model_version_by_alias("answers", "champion").version) > 1  # the study's winner
    assert (tmp_path / "report" / "comparison.html").exists()
    assert "Mulis Tern plays the" in printed
