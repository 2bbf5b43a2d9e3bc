"""Decoder layers that wait in the CPU's memory: each is copied to the card when its turn comes, and dropped after it.

For inference alone: an adapter that is made beside an offloaded weight has no memory, and gets no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def offload(model: Any, layers: Sequence[str], device: str) -> None:
    """Leave layers where they lie, in the CPU's memory, and have each forward pass bring them to the device one by one.

    A layer comes as a whole: modules such as DoRA's read the weights of others inside it, which never run themselves.

    Args:
        layers: Their full names in the model.
        device: Where they are computed.
    """
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    skipped = getattr(model, "_skip_keys_device_placement", None)
    for name in layers:
        hook = AlignDevicesHook(device, offload=True, place_submodules=True, skip_keys=skipped)
        add_hook_to_module(model.get_submodule(name), hook)


def offload_notes(layers: Sequence[str]) -> tuple[str, ...]:
    """What a person should know of a model with such layers."""
    if not layers:
        return ()
    which = f"layer {layers[0]} lies" if len(layers) == 1 else f"{len(layers)} layers ({layers[0]} to {layers[-1]}) lie"
    return (
        f"base.offload: {which} unquantised in the CPU's memory: this is slow, and its scores are kept apart from "
        "those of the base without it",
    )


@contextmanager
def whole(model: Any, layers: Sequence[str], device: str) -> Iterator[None]:
    """Inside, all weights of offloaded layers are there, in the CPU's memory; afterwards they are offloaded again.

    An adapter is put on inside: on a layer that is offloaded it would be made without memory, the file's weights would
    be copied nowhere, and the model would answer with what memory held (findings/peft-adapter-on-offloaded-base.sh).
    """
    from accelerate.hooks import remove_hook_from_module

    for name in layers:
        remove_hook_from_module(model.get_submodule(name))
    try:
        yield
    finally:
        offload(model, layers, device)


@contextmanager
def placed_by_map() -> Iterator[None]:
    """Inside, transformers lays modules where a device map says, and hangs no hooks on them.

    Its own would bring matrix by matrix instead of whole layers, and PEFT takes them for a reason to place all anew,
    by a map of its own.
    """
    from transformers import modeling_utils

    dispatch = modeling_utils.accelerate_dispatch
    modeling_utils.accelerate_dispatch = _no_hooks
    try:
        yield
    finally:
        modeling_utils.accelerate_dispatch = dispatch


def _no_hooks(*_: object, **__: object) -> None:
    """Stands for accelerate_dispatch."""
