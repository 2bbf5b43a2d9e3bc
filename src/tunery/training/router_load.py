"""How the routers of a mixture of experts spread the tokens that are trained on, layer by layer.

Source: Switch Transformers, arXiv:2101.03961 (section 2.2, the share of tokens that goes to each expert).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"\.(\d+)\.")
_CHOICES = ("top_k_index", "router_indices")  # transformers' names for the experts that each token goes to


class RouterLoad:
    """Counts where the tokens of training go. Hooks read what a layer's experts are given, and change nothing.

    Padding does not count, nor does what runs in eval mode: validation, scoring, a teacher. Gradient checkpointing runs
    layers again in the backward pass, after the model's forward has ended: they count once. Counts stay on the device
    until they are taken, so that no step waits for it; those of an open interval are not in a checkpoint, and the first
    point after a resume is of the steps since.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._experts = model, dict(_experts(model))
        self._counts: dict[str, torch.Tensor] = {}  # by layer: tokens sent to each expert, shape (experts + 1,)
        self._counting = False
        self._mask: torch.Tensor | None = None  # of the batch's tokens, 0 for padding; None: there is none

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count what the model does inside; one without experts is left alone."""
        with ExitStack() as hooks:
            if self._experts:
                model = self._model
                hooks.callback(model.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
                hooks.callback(model.register_forward_hook(self._end, always_call=True).remove)
            for layer, experts in self._experts.items():
                hooks.callback(experts.register_forward_pre_hook(self._counter(layer), with_kwargs=True).remove)
            yield

    def take(self) -> dict[str, float]:
        """`router/load_<layer>_max` and `_mean` since they were last taken; nothing without experts."""
        import torch

        counted, self._counts = self._counts, {}
        if not counted:
            return {}
        told = iter(torch.cat(list(counted.values())).tolist())  # the device is waited for once
        found: dict[str, float] = {}
        for layer, counts in counted.items():
            of_experts = list(islice(told, len(counts)))[:-1]
            if any(of_experts):
                busiest, met = loads_of(of_experts)
                found |= {f"router/load_{layer}_max": busiest, f"router/load_{layer}_mean": met}
        return found

    def _begin(self, model: Any, _args: Any, given: dict[str, Any]) -> None:
        self._counting, self._mask = bool(model.training), given.get("attention_mask")

    def _end(self, *_: Any) -> None:
        self._counting, self._mask = False, None

    def _counter(self, layer: str) -> Callable[..., None]:
        def count(experts: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            if self._counting:
                chosen = args[1] if len(args) > 1 else next(given[name] for name in _CHOICES if name in given)
                self._add(layer, chosen, experts.num_experts)

        return count

    def _add(self, layer: str, chosen: torch.Tensor, experts: int) -> None:
        """Count choices, shape (..., top_k). No host is waited for: bincount would ask the device for its length."""
        import torch

        chosen = chosen.reshape(-1, chosen.shape[-1]).long()
        tokens = (
            torch.ones_like(chosen) if self._mask is None else self._mask.to(chosen).reshape(-1, 1).expand_as(chosen)
        )
        if layer not in self._counts:  # one more place, for choices that transformers masks
            self._counts[layer] = chosen.new_zeros(experts + 1)
        self._counts[layer].scatter_add_(0, chosen.reshape(-1), tokens.reshape(-1))


def loads_of(counts: Sequence[int]) -> tuple[float, float]:
    """Load of the busiest expert, and mean load of the expert that a token meets; 1.0 each if all are equally busy.

    An expert's load is the tokens it got, over what it would get from a balanced router. With E experts of shares p,
    they are E max(p) and E sum(p²); both are E / top_k if the same experts get every token.
    """
    total, experts = sum(counts), len(counts)
    return experts * max(counts) / total, experts * sum(count * count for count in counts) / total**2


def _experts(model: Any) -> Iterator[tuple[str, Any]]:
    """Modules that hold a layer's experts and are told each token's, by the layer's number."""
    for path, module in model.named_modules():
        if hasattr(module, "num_experts") and not set(_CHOICES).isdisjoint(
            inspect.signature(module.forward).parameters
        ):
            found = _LAYER.search(path)
            yield found[1] if found else path, module
