"""Quantised weights: what is asked of bitsandbytes, and the two places where it must be put right after loading.

Source: QLoRA, arXiv:2305.14314 (NF4, double quantisation); LLM.int8(), arXiv:2208.07339.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, Fault

if TYPE_CHECKING:
    import torch
    from torch import nn


def quantization_config(base: BaseConfig, compute_dtype: torch.dtype, device: str, *, offloads: bool = False) -> Any:
    """transformers' quantisation settings for the section `base`, or None.

    Args:
        offloads: Whether a device map has modules on the CPU, which stay as they are: without the switch that
            transformers names after LLM.int8() it refuses such a map for either kind of quantisation.

    Raises:
        BaseModelError: If int8 is wanted without a CUDA GPU, or NF4 on MPS, where bitsandbytes has no kernels.
    """
    check_quantization(base, device)
    if base.quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    if base.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_enable_fp32_cpu_offload=offloads)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=base.double_quantization,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_enable_fp32_cpu_offload=offloads,
    )


def check_quantization(base: BaseConfig, device: str) -> None:
    """Whether the device can hold the base as base.quantization says; nothing is loaded.

    Raises:
        BaseModelError: As `quantization_config`.
    """
    if base.quantization == "int8" and device != "cuda":
        rule = f"nf4 or none on {device}: LLM.int8() needs a CUDA GPU"
        raise BaseModelError(base.model, Fault("base.quantization", rule, "int8", "Use nf4."))
    if base.quantization == "nf4" and device == "mps":
        rule = "none on mps: bitsandbytes has no 4-bit kernels there"
        raise BaseModelError(base.model, Fault("base.quantization", rule, "nf4", "Or set training.device: cpu."))


def keep_cpu_layout(model: nn.Module) -> None:
    """Forbid bitsandbytes to repack 4-bit weights for AVX512-BF16; call right after loading.

    On a CPU that has those instructions, one forward in eval mode repacks every Linear4bit in place, and later training
    steps have no gradient below the last layers (cosine to the true gradient 0.03), without an error.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def fused_experts(model: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Expert weights that are stored as one 3-D parameter, as (module, parameter's name, full name).

    `load_in_4bit` replaces linear modules only, so these stay unquantised unless quantised by hand.
    """
    return [
        (module, name, f"{path}.{name}")
        for path, module in model.named_modules()
        if "expert" in path.rpartition(".")[2].lower() or "expert" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and parameter.is_floating_point()
    ]


def quantize_experts(model: nn.Module, double_quantization: bool, offloaded: Sequence[str] = ()) -> int:
    """Store every fused expert parameter in NF4; it is expanded when its layer runs. Returns how many there are.

    Args:
        offloaded: Names of layers that are left as they are.
    """
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    apart = tuple(f"{layer}." for layer in offloaded)
    found = [one for one in fused_experts(model) if not one[2].startswith(apart)]
    for module, name, _ in found:
        replace_parameter_4bit(module, name, compress_statistics=double_quantization, quant_type="nf4")
    return len(found)
