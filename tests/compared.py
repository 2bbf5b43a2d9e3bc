"""Runs as training leaves them, without training: what a comparison reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from tunery.records.runs import BaseIdentity
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.tracking.run import open_run
from tunery.tracking.store import Store

IDENTITY = BaseIdentity("acme/base", "c0ffee", "none", "float32", "float32", "own")
BASE = (1.0, 0.0, 0.0, 0.0)
TUNED = (1.0, 1.0, 1.0, 0.0)


def result(
    values: tuple[float, ...],
    task: str = "quiz",
    split: tuple[str, ...] | None = None,
    choices: tuple[str, str] | None = None,
    written: str = "",
    wording: str = "",
) -> TaskResult:
    items = [f"item{number}" for number in range(len(values))]
    splits = list(split or ["dev", "locked"] * len(values))[: len(values)]
    samples = pd.DataFrame({"item_id": items, "split": splits, "task": task, "acc": values, "f1": values})
    if choices is not None:  # the first one is right; it is chosen where the value is 1
        logs = [[-1.0, -2.0] if value else [-2.0, -1.0] for value in values]
        samples = samples.assign(target=choices[0], options=[list(choices)] * len(values), loglikelihoods=logs)
    if written:  # questions and answers as texts
        texts = [f"{written} {number}" for number in range(len(values))]
        asked = [f"{wording or 'question'} {number}" for number in range(len(values))]
        samples = samples.assign(question=asked, target="right", prediction=texts)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    scores = {name: Score(task, name, mean, error, len(values)) for name in ("acc", "f1")}
    return TaskResult(TaskSettings(task, "1.0+abc", 0, None, True, "p", wording=wording), scores, samples, "acc")


def logged(
    store: Store,
    *,
    seed: int = 0,
    rank: int = 8,
    name: str | None = None,
    kind: str = "train",
    values: tuple[float, ...] = TUNED,
    base: tuple[float, ...] = BASE,
    task: str = "quiz",
    split: str = "all",
    tags: Mapping[str, str] | None = None,
    samples: bool = True,
    project: str = "small",
    choices: tuple[str, str] | None = None,
    written: str = "",
    template: str | None = None,
    drawn: str | None = None,
    wording: str = "",
) -> str:
    """A run as training leaves it; `drawn`: digest of the rows that its seed drew."""
    tuned = {task: result(values, task, choices=choices, written=written, wording=wording)}
    before = {task: result(base, task)}
    sample = {"rows": 16, "seed": "training"}
    config = {
        "base": {"model": "acme/base", "quantization": "none"},
        "adapter": {"method": "lora", "rank": rank},
        "data": {
            "template": "chat",
            "prompt_template": wording or None,
            "train": [{"source": "facts.jsonl", **({"sample": sample} if drawn else {})}],
        },
        "training": {"seed": seed},
        "evaluation": {"tasks": [task], "primary": {task: "acc"}, "limit": None, "few_shot": None},
    }
    with open_run(replace(store, experiment=project), kind, project, run_name=name) as tracker:
        tracker.log_config(config, "print")
        tracker.log_inputs({"base": "c0ffee", "data.train": drawn or "d1"})
        tracker.tag(**{"tunery.datasets": "facts.jsonl", **(tags or {})})
        tracker.log_scores(before, tuned, score=tuned[task].scores["acc"].value)
        tracker.log_metrics({"train_seconds": 7.0})
        tracker.log_constants({"train_rows": 90})
        tracker.log_tasks(tuned, asked={task: "acc"}, counted=[task], split=split, template=template)
        if samples:
            tracker.log_samples(tuned)
    return tracker.run_id
