"""4-bit weights that are kept in the type they are computed in: bitsandbytes expands them again in every product.

What is computed stays the same, as do the packed weights, which are what is stored, recorded and merged.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from bitsandbytes.nn.modules import fix_4bit_weight_quant_state_from_module
from torch.nn import functional

from tunery.config.units import format_bytes
from tunery.models.device import available_bytes

# Room for activations, optimizer and whatever else the machine does: `auto` takes no more of the free memory.
_LARGEST_PART = 0.5
_KEPT = "tunery_expanded"


class ExpandedLinear4bit(Linear4bit):  # type: ignore[misc]  # bitsandbytes has no types
    """A 4-bit layer that expands its weight at its first product, and keeps it."""

    compute_type_is_set: bool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As Linear4bit computes it, whose own rule decides on the type."""
        if not self.compute_type_is_set:
            self.set_compute_type(x)
            self.compute_type_is_set = True
        dtype = self.compute_dtype or x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return functional.linear(x.to(dtype), self._weight_in(dtype), bias).to(x.dtype)

    def _weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        # Kept by the packed weight, not by the layer: other layers may share it, and merging puts another in its place.
        kept: torch.Tensor | None = getattr(self.weight, _KEPT, None)
        if kept is None or kept.dtype != dtype or kept.device != self.weight.device:
            fix_4bit_weight_quant_state_from_module(self)
            with torch.no_grad():
                kept = dequantize_4bit(self.weight.data, self.weight.quant_state).to(dtype)
            setattr(self.weight, _KEPT, kept)
        return kept


def settle_weights(
    model: Any, wanted: Literal["auto", "packed", "expanded"], device: str, dtype: torch.dtype
) -> tuple[str, ...]:
    """Have the 4-bit layers of a model keep their weights expanded, if that is wanted and there is memory for it.

    Args:
        wanted: base.weights. `expanded` takes all that is free; `auto` takes half, and on a CPU alone: on a card memory
            is what people choose 4 bits for.
        device, dtype: Where the weights lie, and the type they are computed in.

    Returns:
        Sentences for a person: that there is no room for what was asked for.
    """
    layers = [module for module in model.modules() if type(module) is Linear4bit]
    part = {"auto": _LARGEST_PART if device == "cpu" else 0.0, "packed": 0.0, "expanded": 1.0}[wanted]
    needed = sum(layer.in_features * layer.out_features for layer in layers) * dtype.itemsize
    free = available_bytes(device)
    if part and needed <= part * free:
        for layer in layers:
            layer.__class__ = ExpandedLinear4bit
    elif wanted == "expanded":
        sizes = f"{format_bytes(needed)}, and {format_bytes(free)} are free"
        return (f"base.weights: expanded needs {sizes}: they stay packed, which is slower and computes the same",)
    return ()
