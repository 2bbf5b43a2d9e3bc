"""Requests gathered into rows, one a document, and rows into groups that begin alike.

MMLU shows the same five examples before each question of a subject; stock HFLM runs them again for every option. Rows
of a task whose prompts share a beginning are a group here, whose beginning goes through the model once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

# Below, copying keys and values and smaller batches cost what the beginning saves (benchmarks/scoring.py).
_FEWEST_TOKENS, _FEWEST_ROWS = 32, 3


@dataclass(frozen=True)
class DocumentRow:
    """One context with its options."""

    context: Sequence[int]  # token ids that every option follows
    options: Mapping[int, Sequence[int]]  # token ids of each option, by the place of its request

    @property
    def width(self) -> int:
        """Tokens of the row: an option's last one is only predicted."""
        return len(self.context) + sum(len(option) - 1 for option in self.options.values())

    @property
    def predicted(self) -> int:
        """Columns whose logits are needed: the context's last one, and the options'."""
        return self.width - len(self.context) + 1

    @property
    def single_width(self) -> int:
        """Tokens of the longest request if each had its own row."""
        return len(self.context) + max(len(option) for option in self.options.values()) - 1


@dataclass(frozen=True)
class RowGroup:
    """Rows with one beginning."""

    prefix: Sequence[int]  # token ids; empty where rows have nothing in common that is worth keeping
    rows: Sequence[DocumentRow]  # their contexts go on after the prefix; widest first


def rows_of(
    keys: Sequence[object], pairs: Sequence[tuple[Sequence[int], Sequence[int]]], widest: int
) -> list[DocumentRow]:
    """Requests gathered by document and context, widest row first; without those that fit in no row.

    Args:
        keys: The document of each request.
        pairs: Context and option of each request, as token ids.
        widest: Tokens of a row; a document with more is split.
    """
    gathered: dict[object, dict[int, Sequence[int]]] = {}
    for place, (key, (context, option)) in enumerate(zip(keys, pairs, strict=True)):
        if len(context) + len(option) <= widest:
            gathered.setdefault((key, tuple(context)), {})[place] = option
    rows = []
    for options in gathered.values():
        context = pairs[next(iter(options))][0]
        rows += [DocumentRow(context, part) for part in _split(options, widest - len(context))]
    return sorted(rows, key=lambda row: (-row.width, tuple(row.context), tuple(map(tuple, row.options.values()))))


def grouped(rows: Sequence[DocumentRow], task: Callable[[DocumentRow], object]) -> list[RowGroup]:
    """Rows gathered by task where the task's prompts begin alike; first the gatherings, then all others together.

    Args:
        rows: Rows with whole contexts, widest first.
        task: The task of a row; only rows of one task are looked at together.
    """
    by_task: dict[object, list[DocumentRow]] = {}
    for row in rows:
        by_task.setdefault(task(row), []).append(row)
    gathered = [_gathered(some) for some in by_task.values()]
    alone = {id(row) for group in gathered if not group.prefix for row in group.rows}
    others = RowGroup((), [row for row in rows if id(row) in alone])
    return [*(group for group in gathered if group.prefix), *([others] if others.rows else [])]


def _split(options: Mapping[int, Sequence[int]], room: int) -> Iterator[dict[int, Sequence[int]]]:
    part: dict[int, Sequence[int]] = {}
    used = 0
    for place, option in options.items():
        if part and used + len(option) - 1 > room:
            yield part
            part, used = {}, 0
        part[place] = option
        used += len(option) - 1
    yield part


def _gathered(rows: list[DocumentRow]) -> RowGroup:
    length = _shared_tokens([row.context for row in rows])
    if length < _FEWEST_TOKENS or len(rows) < _FEWEST_ROWS:
        return RowGroup((), rows)
    return RowGroup(rows[0].context[:length], [replace(row, context=row.context[length:]) for row in rows])


def _shared_tokens(contexts: Sequence[Sequence[int]]) -> int:
    """Tokens that all contexts begin with; each keeps one of its own, whose logits say what follows."""
    first, last = min(contexts, key=tuple), max(contexts, key=tuple)  # what these two share, all share
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return min(sum(1 for _ in same), min(map(len, contexts)) - 1)
