"""One pair of models has one gain, one interval and one p-value, whichever command is asked."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from rich.console import RenderableType

from tests.integration.conftest import Place
from tunery.comparison.compare import CompareOptions, compare_runs
from tunery.comparison.selection import Selection
from tunery.config.load import load_project
from tunery.promotion.promote import promote
from tunery.promotion.report import markdown
from tunery.records.scores import SCORE, Difference
from tunery.runs.report.markdown import run_report
from tunery.runs.train import train
from tunery.statistics.paired import compare_tasks

FACTS = Path(__file__).parents[2] / "projects" / "quickstart" / "data" / "facts.jsonl"
TASKS = ("world_facts", "world_comparison")


class Quiet:
    """An observer that shows nothing."""

    def step(self, text: str) -> None: ...

    def show(self, renderable: RenderableType) -> None: ...

    def training(self, metrics: object, total_steps: int) -> None: ...

    def end_training(self) -> None: ...


def as_numbers(difference: Difference) -> dict[str, object]:
    """Everything but the correction for many comparisons, which is a matter of the table."""
    return {name: value for name, value in dataclasses.asdict(difference).items() if name != "adjusted"}


def cells(page: str, row: str) -> list[str]:
    """Difference, interval, p and test: the last four cells of the first row that begins so."""
    line = next(line for line in page.splitlines() if re.match(row, line))
    return [cell.strip() for cell in line.strip("| ").split("|")][-4:]


def test_train_compare_and_promote_find_one_number(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(place.folder / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(place.folder)
    file = place.project(
        adapter={"rank": 16, "alpha": 32, "target_modules": "all-linear"},
        data={"train": [{"source": str(FACTS), "format": "messages"}]},
        training={"max_steps": 30, "learning_rate": 3.0e-3, "micro_batch_size": 16, "keep_best_by": "score"},
        evaluation={
            "tasks": list(TASKS),
            "primary": dict.fromkeys(TASKS, "acc"),
            "limit": 120,
            "batch_size": 64,
            "generation": {"prompts": 0},
        },
        promotion={"min_gain": 0.0, "guard": dict.fromkeys(TASKS, -0.5)},
    )
    record = train(load_project(file), Quiet(), tracking_uri=place.uri)
    options = CompareOptions(record=False, curves=False)
    comparison = compare_runs(Selection(runs=(record.run_id,)), options, Quiet(), tracking_uri=place.uri)
    verdict = promote(f"runs:/{record.run_id}", None, [], Quiet(), dry_run=True, tracking_uri=place.uri)
    assert verdict is not None

    report, page, (row,) = run_report(record), markdown(verdict), comparison.main.contenders
    trained = {
        pair.task: pair.difference for pair in compare_tasks(record.base, record.tuned, record.primary, "locked")
    }
    assert record.split == "locked", "the checkpoint was chosen on dev items"
    assert set(trained) == set(TASKS)
    for task in TASKS:
        compared, judged = row.cells[task].gain, verdict.evidence.find(task, "base")
        assert compared is not None
        assert judged is not None
        assert as_numbers(compared) == pytest.approx(as_numbers(trained[task]))
        assert as_numbers(judged) == pytest.approx(as_numbers(trained[task]))
        assert cells(report, rf"\| {task} \| acc \|") == cells(page, rf"\| {task} \(acc\) \| base \|")
    score, judged = row.score.gain, verdict.evidence.find(SCORE, "base")
    assert score is not None
    assert judged is not None
    assert as_numbers(score) == pytest.approx(as_numbers(judged))
