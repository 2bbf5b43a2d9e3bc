"""Which runs are worth reading the answers of."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from tunery.entries import counting_anywhere, ranked_by
from tunery.tracking.entries_records import Reading


def contenders(readings: Sequence[Reading], most: int) -> list[Reading]:
    """The runs that are tested item by item: the best configurations of the largest set that was asked the same.

    Args:
        readings: All that are compared.
        most: How many configurations at most, each with all of its seeds.
    """
    tasks = counting_anywhere(one.entry for one in readings)
    sets: dict[frozenset[str], dict[str, list[Reading]]] = {}
    for reading in readings:
        asked = frozenset(ranked_by(reading.entry, tasks))
        sets.setdefault(asked, {}).setdefault(reading.entry.configuration, []).append(reading)
    ordered = sorted(sets.values(), key=lambda groups: -sum(map(len, groups.values())))
    best = [
        group
        for groups in ordered
        for group in sorted(groups.values(), key=lambda group: _level(group, tasks), reverse=True)
    ]
    return [reading for group in best[:most] for reading in group]


def _level(group: Sequence[Reading], tasks: Collection[str]) -> float:
    """Mean over tasks and seeds, greater is better; what is no number comes last."""
    values = [
        score.value if score.higher_is_better else -score.value
        for one in group
        for score in ranked_by(one.entry, tasks).values()
    ]
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else -math.inf
