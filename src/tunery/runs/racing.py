"""A trial raced against another: its dev items are scored in blocks, until it is surely worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunery.errors import Pruned
from tunery.records.scores import TaskResult
from tunery.runs.cache import Loaded
from tunery.runs.scoring import Results, own_scores
from tunery.statistics.racing import Race

if TYPE_CHECKING:
    import pandas as pd

    from tunery.tracking.store import Store


@dataclass(frozen=True)
class Rival:
    """Who a trial is raced against."""

    run_id: str  # of a finished trial
    alpha: float  # largest chance of ending a trial that is at least as good


def raced_scores(loaded: Loaded, store: Store, rival: Rival | None) -> Results:
    """The model's results on dev items; without a rival that was asked the same, as ever.

    Raises:
        Pruned: If it is surely worse before all items are scored.
    """
    from tunery.evaluation.score import score_in_blocks

    race = None if rival is None else _race(loaded, store, rival)
    if race is None:
        return own_scores(loaded, "dev")
    evaluation = loaded.project.evaluation
    results = score_in_blocks(loaded.model, loaded.tokenizer, loaded.asked, evaluation, list(race.metrics), race.lost)
    if results is None:
        raise Pruned(f"{race.race.taken} of {race.race.items} dev items")
    return results


@dataclass
class PairedRace:
    """The rival's value on each item, and how much the item counts in the score."""

    race: Race
    metrics: Mapping[str, str]  # of each task that counts
    signs: Mapping[str, int]  # -1 for a task's metric of which less is better
    values: Mapping[str, Mapping[str, float]]  # by task and item
    weights: Mapping[str, Mapping[str, float]]  # by task and item; 1 on the average
    _unlike: bool = field(default=False)  # whether an answer was no number from 0 to 1

    def lost(self, block: Results) -> bool:
        """Whether the model is surely worse, now that these items are scored too."""
        from tunery.evaluation.score import in_drawn_order

        found: dict[str, float] = {}
        for task, metric in self.metrics.items():
            if task in block:
                found |= self._differences(task, block[task].samples, metric)
        if self._unlike or not all(map(math.isfinite, found.values())):
            self._unlike = True  # it is scored to its end, which says what is wrong
            return False
        return self.race.take(found[item] for item in sorted(found, key=in_drawn_order))

    def _differences(self, task: str, samples: pd.DataFrame, metric: str) -> dict[str, float]:
        if metric not in samples:
            return dict.fromkeys(samples["item_id"], math.nan)
        pairs = zip(samples["item_id"], samples[metric], strict=True)
        return {item: self._difference(task, item, float(value)) for item, value in pairs}

    def _difference(self, task: str, item: str, value: float) -> float:
        if not 0 <= value <= 1:
            return math.nan
        return self.weights[task][item] * self.signs[task] * (value - self.values[task][item])


def _race(loaded: Loaded, store: Store, rival: Rival) -> PairedRace | None:
    """None if the rival was not asked the same items in the same way, or a score is no mean of values from 0 to 1."""
    from tunery.evaluation.samples import items_digest
    from tunery.tracking.base_scores import find_in_run

    tasks, evaluation, found = loaded.asked, loaded.project.evaluation, {}
    for name in tasks.counting(evaluation):
        leaves = [tasks.leaves[leaf] for leaf in tasks.members.get(name, (name,))]
        items = [leaf.item_ids[place] for leaf in leaves for place in leaf.chosen("dev", None, evaluation.dev_fraction)]
        result = find_in_run(store, rival.run_id, tasks.settings[name], items_digest(items), tasks.primary[name])
        if result is None:
            return None
        found[name] = result
    return paired_race(found, rival.alpha)


def paired_race(rival: Mapping[str, TaskResult], alpha: float) -> PairedRace | None:
    """A race over all items of a rival's results, of which each task counts alike.

    Returns:
        None if a score is no mean over items of values from 0 to 1, or an item counts twice.
    """
    from tunery.evaluation.result import averaging

    values, shares = {}, {}
    for name, result in rival.items():
        samples, how = result.samples, averaging(result, result.primary)
        column = samples[result.primary] if how else None
        if column is None or column.isna().any() or not column.between(0, 1).all():
            return None
        values[name] = dict(zip(samples["item_id"], map(float, column), strict=True))
        shares[name] = dict(zip(samples["item_id"], _shares(samples, how == "tasks"), strict=True))
    items = sum(map(len, values.values()))
    if not items or len({item for known in values.values() for item in known}) < items:
        return None
    weights = {
        name: {item: share * items / len(rival) for item, share in known.items()} for name, known in shares.items()
    }
    return PairedRace(
        race=Race(items, alpha, bound=max(weight for known in weights.values() for weight in known.values())),
        metrics={name: result.primary for name, result in rival.items()},
        signs={name: 1 if result.scores[result.primary].higher_is_better else -1 for name, result in rival.items()},
        values=values,
        weights=weights,
    )


def _shares(samples: pd.DataFrame, by_leaf: bool) -> list[float]:
    """What each item is of the task's score: all alike, or each leaf task's items together."""
    if not by_leaf:
        return [1 / len(samples)] * len(samples)
    sizes = samples["task"].value_counts()
    return [1 / (len(sizes) * int(sizes[task])) for task in samples["task"]]
