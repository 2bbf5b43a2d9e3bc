"""Which rows are held out for validation, and how often each training row is seen."""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Sequence

from tunery.data.clean import folded_text
from tunery.records.rows import Conversation


def held_out(conversations: Sequence[Conversation], fraction: float) -> list[int]:
    """Places of the validation rows: those whose text has the smallest hash.

    The choice depends on the texts alone: it is the same for every seed, order and machine. Rows with the same text
    (case and white space folded) are held out together or not at all. They are round(fraction * rows) rows, and at
    least one where there are two different rows.

    Returns:
        Places in `conversations`, ascending.
    """
    by_hash: dict[bytes, list[int]] = defaultdict(list)
    for place, conversation in enumerate(conversations):
        by_hash[hashlib.sha256(folded_text(conversation).encode()).digest()].append(place)
    groups: list[list[int]] = [by_hash[digest] for digest in sorted(by_hash)]
    if fraction <= 0 or len(groups) < 2:
        return []
    wanted = min(round(fraction * len(conversations)), len(conversations) - 1)
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    # None fits: the share is under one row, or every text repeats more often than that.
    smallest: list[int] = min(groups, key=len)
    return sorted(chosen or smallest)


def mix(sources: Sequence[int], weights: Sequence[float], seed: int) -> list[int]:
    """Places of the training rows, each as often as its source's weight says.

    A weight of 2 takes each row twice, 0.5 draws half of the rows, 1.5 takes each once and half of them again. The
    order is that of the rows, pass by pass; training shuffles.

    Args:
        sources: The source's index of each row, shape (rows,).
        seed: Seeds the draw; a source's draw does not depend on the other sources.

    Returns:
        Places in `sources`, at least one of every source that has rows.
    """
    mixed: list[int] = []
    for source, weight in enumerate(weights):
        places = [place for place, own in enumerate(sources) if own == source]
        passes, part = divmod(weight, 1.0)
        mixed += places * int(passes)
        count = math.floor(part * len(places) + 0.5)
        if places and not passes:
            count = max(count, 1)
        mixed += sorted(random.Random(f"{seed}:{source}").sample(places, count))
    return mixed
