"""Few-shot examples that all prompts of a task begin with: run once, and kept as keys and values before every row.

MMLU shows the same five examples before each question of a subject; stock HFLM runs them again for every option. Here
rows of `shared_context` are gathered by what they begin with; a gathering's beginning goes through the model once, and
its rows follow it. Source: as prefix caching of inference servers, arXiv:2312.07104.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from tunery.evaluation.shared_context import DocumentRow

# Below, copying keys and values and smaller batches cost what the beginning saves (benchmarks/scoring.py).
_FEWEST_TOKENS, _FEWEST_ROWS = 32, 3


@dataclass(frozen=True)
class RowGroup:
    """Rows with one beginning."""

    prefix: Sequence[int]  # token ids; empty where rows have nothing in common that is worth keeping
    rows: Sequence[DocumentRow]  # their contexts go on after the prefix; widest first


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


def keys_and_values(model: Any, prefix: Sequence[int], device: Any) -> Cache:
    """What a model's layers keep of a beginning; any number of rows may follow it, one batch after another.

    Args:
        model: A causal language model in evaluation mode.
        prefix: Token ids, at least one.
        device: Where the model takes its input.
    """
    # Without the model's config: layers with a sliding window keep all, and no row is longer than the window.
    run = DynamicCache()
    ids = torch.tensor([list(prefix)], device=device)
    model(input_ids=ids, past_key_values=run, use_cache=True, logits_to_keep=1)
    return Cache(layers=[_Kept(layer.keys, layer.values) for layer in run.layers])


class _Kept(DynamicLayer):  # type: ignore[misc]  # transformers' caches have no types
    """A layer's keys and values of the beginning, shape (1, heads, tokens, head size), which no batch adds to."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The beginning's and a batch's own, for this layer alone: memory is held for one layer at a time."""
        rows = (len(key_states), -1, -1, -1)
        keys = torch.cat([self.keys.expand(rows), key_states], dim=-2)
        return keys, torch.cat([self.values.expand(rows), value_states], dim=-2)


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
