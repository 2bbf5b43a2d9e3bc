"""What a configuration gained on locked items: its seeds averaged item by item, paired with another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.evaluation.result import averaging
from tunery.ranking.paired import compare_items
from tunery.records import Gain, TaskResult

if TYPE_CHECKING:
    import pandas as pd

Results = Mapping[str, TaskResult]


def gain(before: Sequence[Results], after: Sequence[Results], primary: Mapping[str, str]) -> Gain | None:
    """The difference in score between two configurations, with its interval and p-value.

    An item's value is the mean over a configuration's seeds. Items are compared in pairs, tasks count alike as in the
    score; see `compare_items` for the tests. The interval is about the items: that other seeds would train other
    adapters is in the seeds' spread, not here.

    Args:
        before, after: Results by task, one a seed, on the same items.
        primary: The metric of each task that counts.

    Returns:
        The gain, or None where a metric is no mean over items or none was scored.
    """
    sides = [_items(side, primary) for side in (before, after)]
    if sides[0] is None or sides[1] is None:
        return None
    pair = compare_items(sides[0], sides[1], "score", "value", "tasks" if len(primary) > 1 else "items")
    return None if pair is None else Gain(pair.delta, pair.low, pair.high, pair.p_value)


def _items(seeds: Sequence[Results], primary: Mapping[str, str]) -> pd.DataFrame | None:
    """One row an item: item_id, task, and its value as it counts towards the score, averaged over the seeds."""
    import pandas as pd

    frames = [_of_task(results.get(task), task, metric) for results in seeds for task, metric in primary.items()]
    whole = [frame for frame in frames if frame is not None]
    if not whole or len(whole) < len(frames):
        return None
    means = pd.concat(whole).groupby(["task", "item_id", "nth"], sort=False)["value"].mean()
    return means.reset_index()


def _of_task(result: TaskResult | None, task: str, metric: str) -> pd.DataFrame | None:
    how = averaging(result, metric) if result is not None else None
    if result is None or how is None:
        return None
    samples = result.samples.dropna(subset=[metric])
    values = samples[metric].astype(float) * (1 if result.scores[metric].higher_is_better else -1)
    if how == "tasks":  # scaled so that their plain mean is the mean over the group's tasks
        sizes = samples.groupby("task")["task"].transform("size")
        values = values * len(samples) / (samples["task"].nunique() * sizes)
    nth = samples.groupby("item_id").cumcount()
    return samples[["item_id"]].assign(task=task, value=values, nth=nth)
