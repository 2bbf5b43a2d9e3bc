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
        memo |= {id(one): one for one in held if one is not None}
    return copy.deepcopy(model, memo)
