"""What stored answers say of a score: its items, its error, and the base's value on the same ones. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.entries import TaskScore
from tunery.evaluation.result import mean_over_tasks

if TYPE_CHECKING:
    import pandas as pd

Average = Callable[["pd.DataFrame"], tuple[float, float | None]]


def restricted(score: TaskScore, frame: pd.DataFrame, to_locked: bool) -> tuple[TaskScore, pd.DataFrame]:
    """The score and the answers that it is the mean of; on locked items alone where that is asked and can be done."""
    rows = frame[frame["split"] == "locked"] if "split" in frame else frame
    split = score.conditions.get("split")
    if split == "locked":
        known = _known(score, rows)
    elif split == "all" and to_locked and len(rows) < len(frame) and (average := _average(frame, score)):
        value, stderr = average(rows)
        known = replace(score, value=value, stderr=stderr, base=None, base_stderr=None)
        known = replace(known, conditions={**score.conditions, "split": "locked"})
    else:
        known, rows = _known(score, frame), frame
    rows = rows.drop(columns="split", errors="ignore").reset_index(drop=True)
    conditions = {**known.conditions, "items": digest(rows["item_id"])}
    return replace(known, items=len(rows), conditions=conditions), rows


def _known(score: TaskScore, rows: pd.DataFrame) -> TaskScore:
    """With the error that its items tell, where none was logged."""
    average = _average(rows, score) if score.stderr is None else None
    return score if average is None else replace(score, stderr=average(rows)[1])


def anchored(score: TaskScore, own: pd.DataFrame, base: pd.DataFrame) -> TaskScore:
    """With the base's value on the same items, where none was logged."""
    average = _average(own, score) if score.base is None else None
    if average is None:
        return score
    value, stderr = average(base)
    return replace(score, base=value, base_stderr=stderr)


def _average(frame: pd.DataFrame, score: TaskScore) -> Average | None:
    """How the score is made of its items: their mean, or the mean of leaf tasks that count alike; None: neither."""

    def pooled(rows: pd.DataFrame) -> tuple[float, float | None]:
        values = rows[score.metric].astype(float)
        error = float(values.std(ddof=1)) / math.sqrt(max(len(values), 1))
        return float(values.mean()), error if math.isfinite(error) else None

    def alike(rows: pd.DataFrame) -> tuple[float, float | None]:
        return mean_over_tasks(rows, score.metric)

    ways: list[Average] = [pooled, alike] if "task" in frame else [pooled]
    return next((way for way in ways if math.isclose(way(frame)[0], score.value, rel_tol=1e-6, abs_tol=1e-9)), None)


def digest(item_ids: Iterable[object]) -> str:
    """As tracking.scores.items_digest: the same items have the same name in every run."""
    return hashlib.sha256("\n".join(sorted(map(str, item_ids))).encode()).hexdigest()[:32]
