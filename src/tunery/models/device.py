"""Where to run, and in which arithmetic: the words of project.yaml turned into what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunery.errors import ConfigError, Fault

if TYPE_CHECKING:
    import torch

    from tunery.config.training import TrainingConfig


def resolve_device(wanted: str = "auto") -> str:
    """The device that training.device means: cpu, cuda or mps; auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: If the named device is not there.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = [*(["cuda"] if cuda else []), *(["mps"] if mps else []), "cpu"]
    if wanted == "auto":
        return there[0]
    if wanted not in there:
        rule = f"auto or one of this machine's devices ({', '.join(there)})"
        raise ConfigError("this machine", Fault("training.device", rule, wanted, "Set training.device: auto."))
    return wanted


def resolve_precision(wanted: str, device: str) -> str:
    """The arithmetic of the forward pass that training.precision means on a resolved device: fp32, bf16 or fp16.

    auto takes bf16 on a GPU that has it, fp16 on an older CUDA GPU, else fp32.

    Raises:
        ConfigError: If the device cannot do it: fp16 needs a CUDA GPU's loss scaling.
    """
    if wanted == "auto":
        return ("bf16" if _has_bfloat16(device) else "fp16") if device == "cuda" else "fp32"
    if wanted == "fp16" and device != "cuda":
        rule = f"auto, fp32 or bf16 on {device}: fp16 needs a CUDA GPU's loss scaling"
        raise ConfigError("this machine", Fault("training.precision", rule, wanted, "Set training.precision: auto."))
    return wanted


def check_device(training: TrainingConfig) -> str:
    """The device of a training, which can do its arithmetic.

    Raises:
        ConfigError: As `resolve_device` and `resolve_precision`.
    """
    device = resolve_device(training.device)
    resolve_precision(training.precision, device)
    return device


def resolve_dtype(wanted: str, device: str) -> torch.dtype:
    """The type of the weights that are not quantised: auto is bfloat16 on a GPU that has it, else float32."""
    import torch

    if wanted == "auto":
        return torch.bfloat16 if device == "cuda" and _has_bfloat16(device) else torch.float32
    dtype = getattr(torch, wanted)
    assert isinstance(dtype, torch.dtype)
    return dtype


def available_bytes(device: str) -> int:
    """Memory of a device: all of a CUDA card, else what the system has left now."""
    if device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return int(psutil.virtual_memory().available)


def _has_bfloat16(device: str) -> bool:
    import torch

    # Emulated bfloat16 (older than Ampere) is slower than fp16 and saves nothing.
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
