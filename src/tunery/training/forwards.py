"""The forward methods that a trainer patches onto a model, and getting rid of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Forwards:
    """The forward methods that a model had before a trainer was built on it.

    TRL puts a fused output head on the base and accelerate puts autocast around the whole. Left there, scores during
    training would be taken in another arithmetic than after it, and every further run on a resident base would add
    one more layer.
    """

    def __init__(self, model: Any) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._modules = [model] if base is model else [model, base]
        self._own = [_take(module) for module in self._modules]

    def restore(self) -> None:
        """Put the forwards back as they were."""
        for module, state in zip(self._modules, self._own, strict=True):
            _put(module, state)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The model as it was, for validation and scoring between steps."""
        patched = [_take(module) for module in self._modules]
        self.restore()
        try:
            yield
        finally:
            for module, state in zip(self._modules, patched, strict=True):
                _put(module, state)


_ATTRIBUTES = ("forward", "_original_forward")


def _take(module: Any) -> dict[str, Any]:
    return {name: module.__dict__[name] for name in _ATTRIBUTES if name in module.__dict__}


def _put(module: Any, state: dict[str, Any]) -> None:
    for name in _ATTRIBUTES:
        module.__dict__.pop(name, None)
    module.__dict__.update(state)
