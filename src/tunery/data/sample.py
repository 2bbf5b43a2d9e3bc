"""A given number of a source's training rows, balanced by a column where that is asked for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunery.config.data import SourceConfig
from tunery.data.clean import folded_text
from tunery.errors import DataError, Fault
from tunery.records.rows import Conversation


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
    wanted = Wanted(source.source, "sample.rows", sample.rows, sample.balanced and repr(sample.balanced))
    taken = {row.origin for row in first_in_line(conversations, wanted, classes, seed)}
    return [conversation for conversation in conversations if conversation.origin in taken]


@dataclass(frozen=True)
class Wanted:
    """How many rows are drawn, and how faults name it."""

    where: str  # the source, or the section
    key: str
    rows: int
    balanced: str | None = None  # by what the classes differ: "'label'"; None: rows are not balanced


def first_in_line(
    conversations: Sequence[Conversation], wanted: Wanted, classes: Mapping[str, str], seed: int
) -> list[Conversation]:
    """As many rows as are wanted, equally many of each class if they are balanced, in the order of the line.

    Args:
        classes: Origin -> class, of all rows if they are balanced.

    Raises:
        DataError: As `draw`.
    """
    by_class: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        by_class[classes[conversation.origin] if wanted.balanced else ""].append(conversation)
    each = _rows_a_class(wanted, by_class)
    taken = [row for rows in by_class.values() for row in _in_line(rows, seed)[:each]]
    return _in_line(taken, seed)


def _in_line(rows: Sequence[Conversation], seed: int) -> list[Conversation]:
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{folded_text(row)}".encode()).digest())


def _rows_a_class(wanted: Wanted, by_class: Mapping[str, Sequence[Conversation]]) -> int:
    advice = "Validation rows are taken out before: see data.validation."
    fewest = min(by_class, key=lambda value: len(by_class[value]), default="")
    available = len(by_class) * len(by_class.get(fewest, ()))
    short = wanted.rows > available
    if wanted.balanced is None or not by_class:  # without rows there are no classes to share them out among
        if short:
            rule = f"at most {available}, the training rows"
            raise DataError(wanted.where, Fault(wanted.key, rule, wanted.rows, advice))
        return wanted.rows
    if wanted.rows % len(by_class):
        rule = f"a multiple of {len(by_class)}, the number of different values of {wanted.balanced}"
        raise DataError(wanted.where, Fault(wanted.key, rule, wanted.rows))
    if short:
        few = f"{wanted.balanced} is {fewest!r} in {len(by_class[fewest])} training rows only"
        raise DataError(wanted.where, Fault(wanted.key, f"at most {available}: {few}", wanted.rows, advice))
    return wanted.rows // len(by_class)
