"""Bytes that stay in memory between steps: stored weights, what is trained, and the optimizer's states.

Source: QLoRA, arXiv:2305.14314 (NF4, double quantisation); 8-bit optimizers, arXiv:2110.02861; Adafactor,
arXiv:1804.04235; LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, prod

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.estimation.activations import FP32
from tunery.estimation.architecture import Architecture, Layer, Linear
from tunery.models.targets import resolve_parameters, resolve_targets

Shape = tuple[int, ...]

_NF4_BLOCK, _SCALE_BLOCK, _STATE_BLOCK = 64, 256, 256
_NF4_CODES, _BYTE_CODES = 16 * FP32, 256 * FP32
_SMALLEST_IN_8_BIT = 4096  # bitsandbytes keeps the states of smaller tensors in fp32


def weight_bytes(arch: Architecture, base: BaseConfig, width: int) -> int:
    """The base's weights; linear modules but the output head are quantised, embeddings and norms never.

    Args:
        arch: The base.
        base: The section `base`.
        width: Bytes of a weight that is not quantised.
    """
    return stored_bytes(arch.parameter_count, arch.layers, base, width)


def stored_bytes(parameters: int, layers: Sequence[Layer], base: BaseConfig, width: int) -> int:
    """So many weights, among them those of the layers; arguments and rules as for `weight_bytes`."""
    total = parameters * width
    if base.quantization == "none":
        return total
    small = [linear.size for layer in layers for linear in layer.linears if linear.quantised]
    if base.quantization == "int8":
        rows = [linear.outputs for layer in layers for linear in layer.linears if linear.quantised]
        return total - sum(small) * (width - 1) + sum(rows) * FP32  # a scale a row
    small += [layer.experts for layer in layers if layer.experts]
    return total - sum(small) * width + sum(nf4_bytes(size, base.double_quantization) for size in small)


def nf4_bytes(size: int, double_quantization: bool) -> int:
    """4 bits a weight, and a scale for every 64: fp32, or 8 bits with an fp32 scale for every 256 of them.

    That is 4.5 or 4.127 bits a weight, and two tables of codes.
    """
    blocks = ceil(size / _NF4_BLOCK)
    codes = ceil(size / 2) + _NF4_CODES
    if not double_quantization:
        return codes + blocks * FP32
    return codes + blocks + ceil(blocks / _SCALE_BLOCK) * FP32 + _BYTE_CODES + FP32


def adapted_linears(arch: Architecture, adapter: AdapterConfig) -> list[Linear]:
    """Modules that get an adapter.

    Raises:
        ConfigError: If a target matches nothing, or a router or the output head.
    """
    if adapter.method == "full":
        return []
    names = resolve_targets(arch.model, adapter.target_modules)
    return [linear for layer in arch.layers for linear in layer.linears if _is_named(linear.name, names)]


def trained_shapes(arch: Architecture, adapter: AdapterConfig, adapted: Sequence[Linear]) -> list[Shape]:
    """Shapes of all tensors that are trained.

    Raises:
        ConfigError: If an expert parameter matches nothing.
    """
    if adapter.method == "full":
        return list(arch.parameters.values())
    shapes: list[Shape] = []
    for linear in adapted:
        shapes += [(adapter.rank, linear.inputs), (linear.outputs, adapter.rank)]
        shapes += [(linear.outputs,)] if adapter.dora else []
    return shapes + list(_expert_adapters(arch, adapter))


def optimizer_bytes(optimizer: str, shapes: Iterable[Shape]) -> int:
    """The states that an optimizer keeps between steps: two numbers a weight for Adam."""
    return sum(_state_bytes(optimizer, shape) for shape in shapes)


def step_bytes(optimizer: str, shapes: Sequence[Shape]) -> int:
    """Additional bytes while the optimizer moves its largest tensor: Adafactor makes its update beside the gradient."""
    return 2 * FP32 * max(map(prod, shapes), default=0) if optimizer == "adafactor" else 0


def _state_bytes(optimizer: str, shape: Shape) -> int:
    size = prod(shape)
    if optimizer == "sgd":
        return 0
    if optimizer == "adafactor":  # sums over rows and over columns instead of a matrix
        return FP32 * (prod(shape[:-1]) + prod(shape[:-2]) * shape[-1] if len(shape) > 1 else size)
    if optimizer.endswith("8bit") and size >= _SMALLEST_IN_8_BIT:
        return 2 * (size + ceil(size / _STATE_BLOCK) * FP32)
    return 2 * FP32 * size


def _expert_adapters(arch: Architecture, adapter: AdapterConfig) -> Iterator[Shape]:
    """PEFT adapts every expert of a fused parameter: rank x experts rows and columns."""
    names = resolve_parameters(arch.model, adapter.target_parameters)
    for full, shape in arch.parameters.items():
        if _is_named(full, names):
            experts, outputs, inputs = shape
            yield (adapter.rank * experts, inputs)
            yield (outputs, adapter.rank * experts)


def _is_named(full: str, names: Iterable[str]) -> bool:
    return any(full == name or full.endswith(f".{name}") for name in names)
