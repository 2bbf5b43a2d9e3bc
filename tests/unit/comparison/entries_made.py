"""Made-up runs for the tests of a comparison: 0/1 answers of known accuracy on shared items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tunery.comparison.entries import RunEntry, TaskScore
from tunery.evaluation.samples import items_digest

CONDITIONS = {"version": "1.0", "few_shot": "0", "chat_template": "true", "split": "all"}
ITEMS = 120


def answers(task: str, chances: np.ndarray, seed: int) -> pd.DataFrame:
    """One 0/1 answer an item, by chance of being right."""
    right = np.random.default_rng(seed).random(len(chances)) < chances
    ids = [f"{task}-{number}" for number in range(len(chances))]
    return pd.DataFrame({"item_id": ids, "split": "dev", "acc": right.astype(float)})


def score_of(task: str, samples: pd.DataFrame, base: pd.DataFrame | None = None) -> TaskScore:
    """The score that samples average to."""
    values = samples["acc"]
    before = None if base is None else float(base["acc"].mean())
    return TaskScore(
        task, "acc", float(values.mean()), float(values.sem()), len(values), base=before,
        base_stderr=None if base is None else float(base["acc"].sem()),
        conditions={**CONDITIONS, "items": items_digest(samples["item_id"])},
    )  # fmt: skip


def run(
    name: str,
    gains: Mapping[str, float],
    seed: int = 0,
    data: str = "facts",
    items: int = ITEMS,
    configuration: str | None = None,
    **facts: Any,
) -> RunEntry:
    """A run that answers each task's items with a chance raised by its gain over the base."""
    samples, base_samples, tasks = {}, {}, {}
    for number, (task, gain) in enumerate(gains.items()):
        easy = np.random.default_rng(100 + number).beta(0.5, 0.5, items)
        # Which answers a run gives hangs on what it is, so that the next process gives the same.
        draw = sum(map(ord, f"{name}{data}{task}")) * 31 + seed
        samples[task] = answers(task, easy + (1 - easy) * gain / 0.5, draw)
        base_samples[task] = answers(task, easy, 7 + number)
        tasks[task] = score_of(task, samples[task], base_samples[task])
    made = RunEntry(
        run_id=f"{name}-{data}-{seed}".replace(" ", "_"), name=name, kind="train", project="quickstart",
        base="builtin:tiny", method="lora", trained_on=data, configuration=configuration or f"{name} {data}",
        seed=seed, tasks=tasks, samples=samples, base_samples=base_samples, train_rows=400,
        costs={"train_seconds": 30.0 + 10 * len(name), "peak_memory_bytes": 2.0**30, "trainable_parameters": 5e4},
        curves=curves(draw),
    )  # fmt: skip
    return dataclasses.replace(made, **facts)


def curves(draw: int) -> dict[str, list[tuple[int, float]]]:
    """Loss that falls, each run's in its own way."""
    noise = np.random.default_rng(draw).normal(0, 0.08, 40)
    floor = 0.2 + 0.3 * ((draw % 7) / 7)
    train = [(step, floor + 2.5 / step + abs(noise[step])) for step in range(1, 40)]
    return {"train/loss": train, "validation/nll": [(step, floor + 0.1 + 2.5 / step) for step in (10, 20, 30, 39)]}


def seeds(name: str, gains: Mapping[str, float], count: int = 3, **facts: Any) -> list[RunEntry]:
    """One run a seed."""
    return [run(name, gains, seed, **facts) for seed in range(1, count + 1)]


def with_conditions(entry: RunEntry, task: str, **conditions: str | None) -> RunEntry:
    """The same run with other conditions; None removes one."""
    score = entry.tasks[task]
    known = {**score.conditions, **conditions}
    kept = {key: value for key, value in known.items() if value is not None}
    return dataclasses.replace(entry, tasks={**entry.tasks, task: dataclasses.replace(score, conditions=kept)})


def without_samples(entry: RunEntry) -> RunEntry:
    """The same run as a published result: scores and errors alone."""
    tasks = {
        name: dataclasses.replace(score, conditions={k: v for k, v in score.conditions.items() if k != "items"})
        for name, score in entry.tasks.items()
    }
    return dataclasses.replace(entry, tasks=tasks, samples={}, base_samples={})


def valued(entry: RunEntry, task: str, value: float, **facts: Any) -> RunEntry:
    """The same run with another score of a task."""
    score = dataclasses.replace(entry.tasks[task], value=value, **facts)
    return dataclasses.replace(entry, tasks={**entry.tasks, task: score})


def quickstart() -> Sequence[RunEntry]:
    """Three configurations with three seeds on each of two datasets, an import, and some that do not fit."""
    low, high = {"world_facts": 0.05, "world_comparison": 0.02}, {"world_facts": 0.3, "world_comparison": 0.15}
    middle = {"world_facts": 0.28, "world_comparison": 0.16}
    runs = [
        one
        for data, share in (("facts", 1.0), ("comparisons", 0.6))
        for name, gains in (("lora r=4", low), ("lora r=16", high), ("dora r=16", middle))
        for one in seeds(name, {task: share * gain for task, gain in gains.items()}, data=data, method=name.split()[0])
    ]
    published = without_samples(run("published", {"world_facts": 0.2, "world_comparison": 0.1}, kind="import"))
    return [
        *runs,
        dataclasses.replace(
            published,
            seed=None,
            configuration="",
            trained_on="",
            method="full",
            curves={},
            source="results.json",
        ),
        with_conditions(run("five-shot", high, seed=9), "world_facts", few_shot="5"),
        valued(run("diverged", high, seed=8), "world_facts", float("nan")),
    ]
