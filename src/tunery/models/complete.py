"""Whether the weights on disk are those that a base's config describes; transformers draws the rest at random."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunery.errors import BaseModelError, Fault

_SHOWN = 3


def check_complete(name: str, model: Any, report: Mapping[str, Any]) -> None:
    """Refuse a model of which weights are missing, of another shape, or left out.

    Args:
        name: base.model, for the message.
        model: As transformers loaded it.
        report: transformers' loading info; tied weights are not in its missing_keys.

    Raises:
        BaseModelError: With every kind of fault.
    """
    missing = sorted(report["missing_keys"])
    reshaped = sorted(key for key, *_ in report["mismatched_keys"])
    faults = []
    if missing:
        faults.append(_fault(name, f"a model with every weight that config.json describes: {_some(missing)} missing"))
    if reshaped:
        faults.append(_fault(name, f"a model whose weights have config.json's shapes: {_some(reshaped)} have not"))
    if left_out := sorted(_left_out(model, report["unexpected_keys"])):
        faults.append(_fault(name, f"a model whose weights config.json describes: {_some(left_out)} have no place"))
    if faults:
        raise BaseModelError(name, faults)


def _fault(name: str, rule: str) -> Fault:
    return Fault("base.model", rule, name, "Copy config.json and the weights anew, from the same model.")


def _left_out(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Unexpected weights that the model has a place for in some layer: a layer too many, or a bias switched off.

    Others are no fault: a checkpoint may hold an image tower or old buffers that the text model does not use.
    """
    holders = {_any_layer(name.rpartition(".")[0]) for name, _ in model.named_parameters()}
    return [key for key in unexpected if _any_layer(key.rpartition(".")[0]) in holders]


def _any_layer(name: str) -> str:
    return re.sub(r"\b\d+\b", "*", name)


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(keys[:_SHOWN])}{more}"
