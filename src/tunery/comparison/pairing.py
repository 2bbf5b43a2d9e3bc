"""A run's stored answers, in an order that all runs share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tunery.comparison.entries import TaskScore
from tunery.statistics.variance import Floats, ItemClusters


@dataclass(frozen=True)
class ItemScores:
    """The items that a score is the mean of.

    Args:
        ids: Unlike one another; an item that a task holds twice has a number at its end the second time.
        items: The item ids as they were stored.
        values: The metric on each item, shape (items,).
        leaves: Each item's leaf task, where leaf tasks count alike whatever their sizes.
        passages: Each item's shared text, where items have one.
    """

    ids: pd.Index[Any]
    items: pd.Series[Any]
    values: Floats
    leaves: pd.Series[Any] | None = None
    passages: pd.Series[Any] | None = None


def answers_of(samples: pd.DataFrame | None, score: TaskScore) -> ItemScores | None:
    """The items behind a score.

    Args:
        samples: One row an item, of all splits; None where a run keeps none.

    Returns:
        None where the items' mean is not the score, so that nothing can be said item by item.
    """
    if samples is None or samples.empty or not {"item_id", score.metric} <= set(samples.columns):
        return None
    rows = samples[samples[score.metric].notna()]
    if score.conditions.get("split") in ("dev", "locked") and "split" in rows:
        rows = rows[rows["split"] == score.conditions["split"]]
    values = rows[score.metric].to_numpy(float)
    passages = rows.get("passage")
    if len(values) and _close(values.mean(), score.value):
        return ItemScores(_distinct(rows["item_id"]), rows["item_id"], values, None, passages)
    if "task" in rows and _close(rows.groupby("task")[score.metric].mean().mean(), score.value):
        return ItemScores(_distinct(rows["item_id"]), rows["item_id"], values, rows["task"], passages)
    return None


def _distinct(items: pd.Series[Any]) -> pd.Index[Any]:
    found: pd.Index[Any] = pd.Index(items)
    if found.is_unique:
        return found
    nth = items.groupby(items).cumcount()
    return found.where(nth == 0, found.astype(str) + " #" + nth.astype(str).to_numpy())


def layout_of(answers: ItemScores) -> ItemClusters:
    """How the items hang together: numbers for their passages and their leaf tasks."""
    leaves = None if answers.leaves is None else pd.factorize(answers.leaves)[0]
    passages = None
    if answers.passages is not None:
        alone = pd.Series([f"item {number}" for number in range(len(answers.ids))], index=answers.passages.index)
        passages = pd.factorize(answers.passages.astype(object).where(answers.passages.notna(), alone))[0]
        if len(np.unique(passages)) == len(passages):
            passages = None  # every item has a text of its own
    return ItemClusters(passages, leaves)


def averaged(answers: Sequence[ItemScores | None], order: pd.Index[Any], sign: int) -> Floats | None:
    """Each item's value, mean over seeds, in `order`; None unless every seed answered exactly these items."""
    values = [None if one is None else _ordered(one, order) for one in answers]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean: Floats = sign * np.mean(known, axis=0)
    return mean


def _ordered(answers: ItemScores, order: pd.Index[Any]) -> Floats | None:
    if answers.ids.equals(order):
        return answers.values
    if len(answers.ids) != len(order):
        return None
    places = answers.ids.get_indexer(order)
    return None if (places < 0).any() else answers.values[places]


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
