"""From what lm-eval returns to our records: scores with their errors, and one row an item."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from tunery.evaluation.items import Leaf, split_of
from tunery.evaluation.tasks import Tasks, column_name
from tunery.records.scores import Score, TaskResult, TaskSettings

CUT = "cut_tokens"  # column of samples: tokens that the prompt lost at its beginning; only of tasks that lost some
_LISTS = ("raw_answers", "options", "loglikelihoods")  # columns of lists, which stand last


def collect(
    found: Mapping[str, Any],
    tasks: Tasks,
    chosen: Mapping[str, Sequence[int]],
    dev_fraction: float,
    limit: int | None,
    cut: Mapping[tuple[str, int], int] = MappingProxyType({}),
) -> dict[str, TaskResult]:
    """Results of every scored leaf task, and of every group, tag or name that means several.

    Args:
        found: What lm-eval's `evaluate` returned.
        tasks: The tasks that were scored.
        chosen: Numbers of the documents that were scored, by leaf task.
        dev_fraction: Share of the items in the split dev.
        limit: Cap of this scoring, in addition to evaluation.limit.
        cut: (leaf task, number of the document) -> tokens that its prompt lost at its beginning.
    """
    results = {
        name: TaskResult(
            settings=_limited(tasks.settings[name], limit),
            scores=_scores(name, found["results"][name], tasks, len(tasks.leaves[name].task._filters)),
            samples=_samples(tasks.leaves[name], found["samples"][name], dev_fraction, cut),
            primary=tasks.primary[name],
        )
        for name in chosen
    }
    for name, leaf_names in tasks.members.items():
        parts = [results[leaf] for leaf in leaf_names if leaf in results]
        if name not in results and parts:
            results[name] = _together(name, parts, found["results"].get(name, {}), tasks, limit)
    return results


def _limited(settings: TaskSettings, limit: int | None) -> TaskSettings:
    caps = [cap for cap in (settings.limit, limit) if cap is not None]
    return dataclasses.replace(settings, limit=min(caps, default=None))


def _together(
    name: str, parts: Sequence[TaskResult], aggregated: Mapping[str, Any], tasks: Tasks, limit: int | None
) -> TaskResult:
    filters = max(len(tasks.leaves[part.settings.task].task._filters) for part in parts)
    scores = _scores(name, aggregated, tasks, filters) or _mean_of_tasks(name, parts)
    return TaskResult(
        settings=_limited(tasks.settings[name], limit),
        scores=_first(scores, tasks.primary[name]),
        samples=pd.concat([part.samples for part in parts], ignore_index=True),
        primary=tasks.primary[name],
    )


def _scores(name: str, values: Mapping[str, Any], tasks: Tasks, filters: int) -> dict[str, Score]:
    """lm-eval's {"acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 400, ...} as scores, the primary one first."""
    scores = {}
    for key, value in values.items():
        metric, comma, filter_name = key.partition(",")
        number = _scalar(value)
        if not comma or metric.endswith("_stderr") or number is None:
            continue
        column = column_name(metric, filter_name, filters)
        error = _scalar(values.get(f"{metric}_stderr,{filter_name}"))  # None for lm-eval's "N/A"
        scores[column] = Score(
            task=name,
            metric=column,
            value=number,
            stderr=error if error is not None and math.isfinite(error) else None,
            items=int(values.get("sample_len", 0)),
            higher_is_better=tasks.higher_is_better[name].get(column, True),
        )
    return _first(scores, tasks.primary[name])


def _mean_of_tasks(name: str, parts: Sequence[TaskResult]) -> dict[str, Score]:
    """For a tag, or a group that declares no aggregate: the unweighted mean of each metric that all its tasks have."""
    scores = {}
    for metric, first in parts[0].scores.items():
        found = [part.scores[metric] for part in parts if metric in part.scores]
        if len(found) < len(parts):
            continue
        errors = [score.stderr for score in found if score.stderr is not None]
        stderr = math.sqrt(math.fsum(error**2 for error in errors)) / len(found)
        scores[metric] = dataclasses.replace(
            first,
            task=name,
            value=math.fsum(score.value for score in found) / len(found),
            stderr=stderr if len(errors) == len(found) else None,
            items=sum(score.items for score in found),
        )
    return scores


def _first(scores: dict[str, Score], primary: str) -> dict[str, Score]:
    return {name: scores[name] for name in sorted(scores, key=lambda metric: metric != primary)}


def _scalar(value: object) -> float | None:
    """A number as Python's float, NumPy's too; None for the tuples that metrics such as F1 gather."""
    return float(value) if isinstance(value, bool | int | float | np.number | np.bool_) else None


def _samples(
    leaf: Leaf, logged: Sequence[Mapping[str, Any]], dev_fraction: float, cut: Mapping[tuple[str, int], int]
) -> pd.DataFrame:
    any_cut = any(name == leaf.name for name, _ in cut)
    rows: dict[int, dict[str, Any]] = {}
    filters = len(leaf.task._filters)
    for sample in logged:
        number = sample["doc_id"]
        item = leaf.item_ids[number]
        row = {
            "item_id": item,
            "split": split_of(item, dev_fraction),
            "task": leaf.name,
            "question": _question(leaf, number),
            "target": leaf.targets[number],
        }
        row |= {"passage": leaf.passages[number]} if leaf.passages else {}
        row |= {CUT: cut.get((leaf.name, number), 0)} if any_cut else {}
        row = rows.setdefault(number, row | _answer(leaf, number, sample))
        for metric in sample["metrics"]:
            value = _scalar(sample[metric])
            if value is not None:
                row[column_name(metric, sample["filter"], filters)] = value
    frame = pd.DataFrame([rows[number] for number in sorted(rows)])
    lists = [column for column in _LISTS if column in frame]
    return frame[[*(column for column in frame if column not in lists), *lists]]


def _question(leaf: Leaf, number: int) -> str:
    """What is asked; where the options are whole beginnings, the ending that all of them share."""
    if getattr(leaf.task, "multiple_input", False):
        return str(leaf.task.doc_to_target(leaf.documents[number]))
    return leaf.texts[number]


def _answer(leaf: Leaf, number: int, sample: Mapping[str, Any]) -> dict[str, Any]:
    first = [answers[0] for answers in sample["resps"]]
    row: dict[str, Any] = {"raw_answers": [], "options": [], "loglikelihoods": []}
    if leaf.task.OUTPUT_TYPE == "generate_until":
        # Before the filters: a wrong filter can be told from a wrong answer.
        return row | {"prediction": str(sample["filtered_resps"][0]), "raw_answers": list(map(str, sample["resps"][0]))}
    row["loglikelihoods"] = logs = [float(one[0] if isinstance(one, tuple | list) else one) for one in first]
    choices = leaf.choices(leaf.documents[number])
    if choices:
        chosen = choices[max(range(len(choices)), key=logs.__getitem__)]
        return row | {"prediction": chosen, "options": choices}
    greedy = isinstance(first[0], tuple | list) and bool(first[0][1])
    return row | {"prediction": leaf.targets[number] if greedy else ""}
