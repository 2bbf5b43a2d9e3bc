"""Keys and values of a beginning that many rows share: run once, and put before each batch.

Source: as prefix caching of inference servers, arXiv:2312.07104.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


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
