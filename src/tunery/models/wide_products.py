"""16-bit products on CPUs that have no instructions for them: computed in float32, and rounded once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

_MOST_CONVERTED = 2**24  # weights at once, 64 MB: the head of a large vocabulary would take gigabytes
# Of one token, as when an answer is written, the conversion of the weights takes three times as long as the product.
_FEWEST_ROWS = 16
_INSTRUCTIONS = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}


def wide_products(model: Any) -> AbstractContextManager[object]:
    """Inside, linear layers of 16-bit weights are computed in float32; outside, and on other devices, as PyTorch does.

    PyTorch's own loops add up in float32 as well, so only the order of additions differs; but they take several times
    as long as the conversions and the product together (findings/torch-16-bit-linear.sh). For inference: gradients are
    not looked after.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    on_cpu = next(model.parameters()).device.type == "cpu"
    slow = {getattr(torch, name) for name in _without_instructions()} if on_cpu else set()
    if not slow:
        return nullcontext()

    def product(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        rows = max(1, _MOST_CONVERTED // weight.shape[1])
        wide, parts = values.float(), []
        for first in range(0, len(weight), rows):
            some = slice(first, first + rows)
            offset = None if bias is None else bias[some].float()
            parts.append(functional.linear(wide, weight[some].float(), offset).to(values.dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    class Wide(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # By position alone, as PyTorch's layers call it; PEFT's trainable tokens name every argument.
            matrix = function is functional.linear and len(args) > 1 and args[1].dim() == 2
            narrow = matrix and args[0].dtype == args[1].dtype and args[0].dtype in slow
            many = narrow and args[0].numel() >= _FEWEST_ROWS * args[1].shape[1]
            return (product if many else function)(*args, **kwargs or {})

    return Wide()


def _without_instructions() -> list[str]:
    """The 16-bit types that this CPU multiplies without instructions of its own for them."""
    import torch

    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return []
    known = torch.cpu.get_capabilities()
    return [name for name, own in _INSTRUCTIONS.items() if not any(known.get(one) for one in own)]
