"""Several models over the weights of one: each has modules, hooks and adapters of its own, and none a second copy."""

from __future__ import annotations

import copy
from typing import Any


def sharing_weights(model: Any) -> Any:
    """A model of new modules around the same tensors: what is put on it, or taken off, does not show on the other.

    Args:
        model: Frozen; whoever trains a weight in place trains it for all.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = [*module._parameters.values(), *module._buffers.values(), getattr(module, "quant_state", None)]
        held += _of_8_bits(module)
        memo |= {id(one): one for one in held if one is not None}
    return copy.deepcopy(model, memo)


def _of_8_bits(module: Any) -> list[Any]:
    """The weight and its scales, which bitsandbytes moves from the weight to the layer that computes with it first."""
    if getattr(getattr(module, "weight", None), "CB", None) is not None:
        module.init_8bit_state()  # else the first of the sharing models would take them, and the rest have none
    state = getattr(module, "state", None)
    return [getattr(state, name, None) for name in ("CB", "SCB")]
