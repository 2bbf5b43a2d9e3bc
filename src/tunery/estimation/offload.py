"""Which layers of a base lie on the card and which in the CPU's memory, by the section base.offload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tunery.config.model import BaseConfig
from tunery.config.project import Project
from tunery.config.units import format_bytes, parse_bytes
from tunery.errors import ConfigError, Fault
from tunery.estimation.architecture import Architecture, architecture_of, decoder_layers
from tunery.estimation.weights import stored_bytes, weight_bytes
from tunery.models.device import available_bytes, resolve_device, resolve_dtype

NO_GRADIENT = "no gradient comes through layers that are offloaded"
# Of the card, where base.offload.gpu is not set: scoring needs the rest.
_PART_FOR_WEIGHTS = 0.75
_ADVICE = "Take a smaller base, base.quantization: nf4, or leave base.offload out."


@dataclass(frozen=True)
class WeightSizes:
    """Bytes of a base by where they may lie."""

    resident: int  # embeddings, final norm and output head, which stay on the card
    on_card: Sequence[int]  # each layer as base.quantization stores it
    on_cpu: Sequence[int]  # each layer unquantised, as it waits in the CPU's memory and passes through the card

    def card_bytes(self, kept: int) -> int:
        """What the card must hold if the first `kept` layers lie there: these, and the largest that passes through."""
        return self.resident + sum(self.on_card[:kept]) + max(self.on_cpu[kept:], default=0)

    def cpu_bytes(self, kept: int) -> int:
        """What the CPU's memory must hold then."""
        return sum(self.on_cpu[kept:])

    def most_on_card(self, gpu: int) -> int | None:
        """How many layers, the first ones, fit on a card of so many bytes; None if it cannot even let one through."""
        fitting = (kept for kept in range(len(self.on_card) + 1) if self.card_bytes(kept) <= gpu)
        return max(fitting, default=None)


def check_offload(base: BaseConfig, device: str) -> None:
    """Whether this machine can offload as base.offload says; the base is not looked at.

    Args:
        device: training.device.

    Raises:
        ConfigError: If the model does not run on a CUDA card, or the card is smaller than what it is to hold.
    """
    wanted = base.offload
    if wanted is None:
        return
    found = resolve_device(device)
    if found != "cuda":
        rule = f"unset on a machine without a GPU: weights lie in the CPU's memory there (training.device: {found})"
        fault = Fault("base.offload", rule, _told(base), "Leave it out, or lay --base.offload null over it.")
        raise ConfigError("this machine", fault)
    if wanted.gpu is not None and parse_bytes(wanted.gpu) > (there := available_bytes("cuda")):
        rule = f"at most {format_bytes(there)}, which the card has; scoring itself needs some of it"
        raise ConfigError("this machine", Fault("base.offload.gpu", rule, wanted.gpu))


def refuse_offload(project: Project, because: str) -> None:
    """Refuse offloaded layers to all but the scoring of a model.

    Raises:
        ConfigError: If base.offload is set; `because` is the reason.
    """
    if project.base.offload is not None:
        rule = f"unset except for tunery evaluate: {because}"
        advice = "Take a smaller base, base.quantization: nf4 or fewer tokens, or lay --base.offload null over it."
        raise ConfigError(project.name, Fault("base.offload", rule, _told(project.base), advice))


def placement(base: BaseConfig, folder: Path, device: str) -> dict[str, str] | None:
    """Each module's place, the card or "cpu", as a device map; None if nothing is to be offloaded.

    Args:
        base: The section `base`.
        folder: Of project.yaml, as for `architecture_of`.
        device: training.device.

    Raises:
        ConfigError: As `check_offload`; or if the weights do not fit into both amounts together.
        BaseModelError: As `architecture_of`.
    """
    check_offload(base, device)
    if base.offload is None:
        return None
    arch, card = architecture_of(base, folder), resolve_device(device)
    kept = _kept_on_card(base, weight_sizes(arch, base, resolve_dtype(base.dtype, card).itemsize))
    return None if kept == len(arch.layers) else device_map(arch.model, kept, card)


def weight_sizes(arch: Architecture, base: BaseConfig, width: int) -> WeightSizes:
    """The bytes of a base's parts, as the estimate counts them; `width` is that of a weight that is not quantised."""
    counts = []
    for name, _ in decoder_layers(arch.model):
        counts.append(sum(prod(shape) for key, shape in arch.parameters.items() if key.startswith(f"{name}.")))
    pairs = zip(counts, arch.layers, strict=True)
    on_card = [stored_bytes(count, [layer], base, width) for count, layer in pairs]
    resident = weight_bytes(arch, base, width) - sum(on_card)
    return WeightSizes(resident, on_card, [count * width for count in counts])


def device_map(model: Any, kept: int, card: str) -> dict[str, str]:
    """Every layer by name, the first `kept` on the card and the others on the CPU; all that is no layer on the card."""
    layers = {name: card if place < kept else "cpu" for place, (name, _) in enumerate(decoder_layers(model))}
    return dict(_places(model, "", layers, card))


def _places(module: Any, prefix: str, layers: Mapping[str, str], card: str) -> Iterator[tuple[str, str]]:
    for leaf, child in module.named_children():
        name = f"{prefix}{leaf}"
        if name not in layers and any(layer.startswith(f"{name}.") for layer in layers):
            yield from _places(child, f"{name}.", layers, card)
        else:
            yield name, layers.get(name, card)


def _kept_on_card(base: BaseConfig, sizes: WeightSizes) -> int:
    assert base.offload is not None, "amounts are read where there are some"
    given, gpu = base.offload, int(available_bytes("cuda") * _PART_FOR_WEIGHTS)
    gpu = gpu if given.gpu is None else parse_bytes(given.gpu)
    cpu = available_bytes("cpu") if given.cpu is None else parse_bytes(given.cpu)
    kept, layers = sizes.most_on_card(gpu), len(sizes.on_card)
    if kept is None:
        least = format_bytes(sizes.card_bytes(0))
        rule = f"at least {least}: embeddings and head stay on the card, and one layer at a time passes through it"
        raise ConfigError(base.model, Fault("base.offload.gpu", rule, format_bytes(gpu), _ADVICE))
    if sizes.cpu_bytes(kept) > cpu:
        needed = format_bytes(sizes.cpu_bytes(kept))
        rule = f"at least {needed}: {layers - kept} of {layers} layers have no room in {format_bytes(gpu)} of the card"
        raise ConfigError(base.model, Fault("base.offload.cpu", rule, format_bytes(cpu), _ADVICE))
    return kept


def _told(base: BaseConfig) -> dict[str, Any] | None:
    return None if base.offload is None else base.offload.model_dump(exclude_none=True)
