"""A run's stored answers, in an order that all runs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunery.comparison.entries import TaskScore
from tunery.evaluation.result import averaging_of
from tunery.statistics.paired import item_ids
from tunery.statistics.variance import Floats, ItemClusters


@dataclass(frozen=True)
class ItemScores:
    """The items that a score is the mean of."""

    items: pd.Series  # the item ids as they were stored
    values: pd.Series  # the metric on each item, by `item_ids`
    passages: pd.Series | None = None  # each item's shared text, where items have one
    leaves: pd.Series | None = None  # each item's leaf task, where leaf tasks count alike whatever their sizes

    @property
    def clusters(self) -> ItemClusters:
        """Which items are not independent, in the order of `values`."""
        return ItemClusters.of(self.passages, self.leaves)


def answers_of(samples: pd.DataFrame | None, score: TaskScore) -> ItemScores | None:
    """The items behind a score.

    Args:
        samples: One row an item, of all splits; None if a run keeps none.

    Returns:
        None if the items' mean is not the score, so that nothing can be said item by item.
    """
    if samples is None or samples.empty or not {"item_id", score.metric} <= set(samples.columns):
        return None
    if score.conditions.get("split") in ("dev", "locked") and "split" in samples:
        samples = samples[samples["split"] == score.conditions["split"]]
    rows = samples.set_axis(item_ids(samples)).dropna(subset=[score.metric])
    averaging = averaging_of(rows, score.metric, score.value)
    if averaging is None:
        return None
    leaves = rows["task"] if averaging == "tasks" else None
    return ItemScores(rows["item_id"], rows[score.metric].astype(float), rows.get("passage"), leaves)


def averaged(answers: Sequence[ItemScores | None], order: pd.Index, sign: int) -> Floats | None:
    """Each item's value, mean over seeds, in `order`; None unless every seed answered exactly these items."""
    known = [one.values for one in answers if one is not None]
    if not known or len(known) < len(answers):
        return None
    if any(len(values) != len(order) or not order.isin(values.index).all() for values in known):
        return None
    mean: Floats = sign * np.mean([values.reindex(order).to_numpy() for values in known], axis=0)
    return mean
