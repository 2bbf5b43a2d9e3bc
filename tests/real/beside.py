"""What tunery says of a trained model, and what lm-eval's own command line says of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.integration.conftest import Place, run
from tests.integration.in_process import Outcome


def said(outcome: Outcome, code: int = 0) -> str:
    """What a command printed, on one line; it ended with this code."""
    assert outcome.code == code, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    return " ".join((outcome.out + outcome.err).split())


def metrics(place: Place, kind: str) -> dict[str, float]:
    """What the store's only run of this kind measured."""
    return dict(_run(place, kind).data.metrics)


def assert_scored_alike(place: Place, task: str, folder: Path, words: Sequence[str]) -> None:
    """Base and tuned model, which was exported to the folder `adapter`, as lm-eval's own command line scores them.

    Args:
        folder: The base.
        words: More options of the command line.
    """
    ours = metrics(place, "train")
    base = f"pretrained={folder},tokenizer={place.folder / 'adapter'},dtype=float32"
    for side, kind, arguments in (
        ("base", "base", base),
        ("lm_eval", "train", f"{base},peft={place.folder / 'adapter'}"),
    ):
        scores, items = _lm_eval(place, task, arguments, words)
        for metric in ("acc", "acc_norm"):
            assert ours[f"{side}/{task}/{metric}"] == pytest.approx(scores[f"{metric},none"]), (side, metric)
        for row, theirs in zip(_samples(place, kind, task), items, strict=True):
            assert list(row) == pytest.approx(theirs, abs=2e-3), side


def _run(place: Place, kind: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.`tunery.kind` = '{kind}'")
    return found


def _samples(place: Place, kind: str, task: str) -> Any:
    """Log-likelihoods of each item's options, in nats, in the task's order."""
    from mlflow.artifacts import download_artifacts

    uri = f"{_run(place, kind).info.artifact_uri}/samples/{task}.parquet"
    return pd.read_parquet(download_artifacts(uri, dst_path=str(place.folder / f"{kind}-samples")))["loglikelihoods"]


def _lm_eval(place: Place, task: str, arguments: str, words: Sequence[str]) -> tuple[dict[str, Any], list[list[float]]]:
    """The task's results, and the log-likelihoods of each item's options in nats."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", task, "--device", "cpu"]
    command += ["--model_args", arguments, "--apply_chat_template", "--log_samples", *words]
    out = place.folder / f"theirs-{'peft' in arguments}"
    said(run([*command, "--output_path", str(out)], place.folder, place.environment()))
    results = json.loads(next(out.rglob("results*.json")).read_text())["results"][task]
    items = [json.loads(line) for line in next(out.rglob("samples*.jsonl")).read_text().splitlines()]
    items.sort(key=lambda item: item["doc_id"])
    return results, [[float(answer[0]) for answer in item["filtered_resps"]] for item in items]
