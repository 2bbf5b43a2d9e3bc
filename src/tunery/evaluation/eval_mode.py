"""Looking at a model without leaving a trace: modes, generators and gradients are as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunery.errors import OutOfMemory, first_line
from tunery.models.wide_products import wide_products

# lm-eval's own seeds, so that a task that samples gets the same draw in every scoring.
_PYTHON_SEED, _NUMPY_SEED, _TORCH_SEED = 0, 1234, 1234


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode, no gradients and seeded generators inside; outside, everything as it was.

    HFLM calls `eval()` only when it is built, so a model that trained since would be scored with dropout on.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    never_repack(model)
    model.eval()
    try:
        with _generators(model), torch.no_grad(), wide_products(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


def never_repack(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for AVX512-BF16 at the first forward in evaluation mode.

    The repacked weights have no backward pass, so training that goes on after a scoring would have no gradient below
    the last layers (cosine to the true gradient 0.03) and say nothing.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def adapter_off(model: Any) -> Iterator[Any]:
    """The base alone: the same model with its adapter disabled; a model without one as it is."""
    if not hasattr(model, "disable_adapter"):
        yield model
        return
    with model.disable_adapter():
        yield model


@contextmanager
def memory_checked(doing: str, batch_size: int, advice: str = "") -> Iterator[None]:
    """Turn a device's or the system's refusal of memory into OutOfMemory with what to change."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # PyTorch's CPU allocator raises a plain RuntimeError.
        words = ("not enough memory", "can't allocate memory")
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words):
            lower = f"Lower evaluation.batch_size ({batch_size}), or use base.quantization: nf4."
            raise OutOfMemory(doing, first_line(error)[:200], advice or lower) from error
        raise


@contextmanager
def _generators(model: Any) -> Iterator[None]:
    import numpy as np
    import torch

    device = next(model.parameters()).device
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # fork_rng keeps the CPU's generator and those of CUDA devices; MPS has a single one, with its own functions.
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            random.seed(_PYTHON_SEED)
            np.random.seed(_NUMPY_SEED)
            torch.manual_seed(_TORCH_SEED)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
