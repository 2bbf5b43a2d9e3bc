"""A given number of a source's training rows, balanced by a column where that is asked for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tunery.config.data import SampleConfig, SourceConfig
from tunery.data.clean import folded_text
from tunery.errors import DataError, Fault
from tunery.records import Conversation


def draw(
    conversations: Sequence[Conversation], source: SourceConfig, classes: Mapping[str, str], training_seed: int
) -> list[Conversation]:
    """The rows of a source that are trained on, in their order.

    Each row has a place in line that its text and the seed decide, and the first of each class are taken. So the draw
    depends neither on the order of the file nor on the number of rows: 16 rows contain the 8 of the same seed.

    Args:
        conversations: Of this source alone, without validation rows.
        classes: Origin -> value of the balanced column.
        training_seed: training.seed.

    Raises:
        DataError: When there are fewer rows, or their number cannot be divided by the classes.
    """
    sample = source.sample
    if sample is None:
        return list(conversations)
    seed = training_seed if sample.seed == "training" else sample.seed
    by_class: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        by_class[classes[conversation.origin] if sample.balanced else ""].append(conversation)
    each = _rows_a_class(source.source, sample, by_class)
    taken = {row.origin for rows in by_class.values() for row in _in_line(rows, seed)[:each]}
    return [conversation for conversation in conversations if conversation.origin in taken]


def _in_line(rows: Sequence[Conversation], seed: int) -> list[Conversation]:
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{folded_text(row)}".encode()).digest())


def _rows_a_class(name: str, sample: SampleConfig, by_class: Mapping[str, Sequence[Conversation]]) -> int:
    advice = "Validation rows are taken out before: see data.validation."
    fewest = min(by_class, key=lambda value: len(by_class[value]), default="")
    available = len(by_class) * len(by_class.get(fewest, ()))
    short = sample.rows > available
    if sample.balanced is None:
        if short:
            raise DataError(name, Fault("sample.rows", f"at most {available}, the training rows", sample.rows, advice))
        return sample.rows
    if sample.rows % len(by_class):
        rule = f"a multiple of {len(by_class)}, the number of different values of {sample.balanced!r}"
        raise DataError(name, Fault("sample.rows", rule, sample.rows))
    if short:
        rule = f"at most {available}: {sample.balanced!r} is {fewest!r} in {len(by_class[fewest])} training rows only"
        raise DataError(name, Fault("sample.rows", rule, sample.rows, advice))
    return sample.rows // len(by_class)
