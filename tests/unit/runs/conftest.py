"""One run with every part of a report in it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tunery.records.rows import DataReport, Drop, SourceReport
from tunery.records.runs import AdapterFacts, BaseIdentity, RunRecord, StepMetrics, Trained
from tunery.records.scores import Score, TaskResult, TaskSettings


def task_result(task: str, right: list[int], stderr: float | None) -> TaskResult:
    samples = pd.DataFrame(
        {
            "item_id": [f"{task}-{n}" for n in range(len(right))],
            "split": ["dev" if n % 2 else "locked" for n in range(len(right))],
            "target": [("yes", "no")[n % 2] for n in range(len(right))],
            "options": [["yes", "no"]] * len(right),
            "acc": [float(value) for value in right],
            # The option at an item's place is right; the other one is chosen where the model is wrong.
            "loglikelihoods": [
                [-1.0, -2.0] if (n % 2 == 0) == bool(value) else [-2.0, -1.0] for n, value in enumerate(right)
            ],
        }
    )
    mean = sum(right) / len(right)
    settings = TaskSettings(task, "1.0", 0, None, True)
    return TaskResult(settings, {"acc": Score(task, "acc", mean, stderr, len(right))}, samples)


def _history() -> list[StepMetrics]:
    steps = [StepMetrics(step, {"train/loss": 3.0 / step}) for step in range(1, 41)]
    checks = [StepMetrics(s, {"validation/nll": 2.5 / s + 0.1, "validation/score": 0.3 + s / 80}) for s in (10, 20, 40)]
    return [*steps, *checks]


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    report = DataReport(
        sources=(SourceReport("data/facts.jsonl", "messages", 100, 98, 1.0, "0123456789abcdef"),),
        drops=(Drop("data/facts.jsonl:3", "no answer"), Drop("data/facts.jsonl:9", "duplicate of data/facts.jsonl:1")),
        changed={}, train_rows=88, validation_rows=10, train_tokens=4000, token_percentiles={"50": 40},
        truncated=(), target_share=0.35, contaminated={}, notes=("data/facts.jsonl: format messages.",),
    )  # fmt: skip
    return RunRecord(
        run_id="abc", project="quickstart",
        identity=BaseIdentity("builtin:tiny", "0123456789abcdef", "nf4", "float32", "float32", "own"),
        adapter=AdapterFacts(("a", "b"), 1000, 100_000), data=report,
        trained=Trained(tmp_path, 40, "validation/nll", 40, 12.34, 2**30, 0.1625, _history()),
        base={"world_facts": task_result("world_facts", [1] * 10 + [0] * 30, 0.0685)},
        tuned={"world_facts": task_result("world_facts", [1] * 32 + [0] * 8, 0.0641)},
        primary={"world_facts": "acc"},
        base_text={"generation/exact_match": 0.1}, tuned_text={"generation/exact_match": 0.9},
        model_version="quickstart/1",
    )  # fmt: skip
