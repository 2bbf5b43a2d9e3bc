"""Which models can be members of a pack, and why others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft.tuners.lora import Linear, LoraLayer
from torch import nn

_ADAPTER = "default"
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_BY_LENGTH = ("dynamic", "longrope")  # rotary positions that follow from the longest row
# Dropout of heads for other tasks, which a causal language model does not have.
_OTHER_HEADS = ("classifier", "summary")


def why_not(model: Any) -> str | None:
    """Why a model with an adapter cannot be a member; None if it can."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    known = {id(weight) for layer in layers for weight in _products(layer)}
    if any(layer.use_dora.get(_ADAPTER) for layer in layers):
        return "DoRA scales each product of the base by the adapter's own weights"
    if not layers or not all(map(_is_linear, layers)):
        return "the adapter is not one of linear layers alone"
    if any(id(weight) not in known for weight in model.parameters() if weight.requires_grad):
        return "more is trained than the products of the adapter"
    if model.get_input_embeddings()._forward_hooks:  # NEFTune's noise, or gradient checkpointing's entry
        return "more is done to its embeddings than looking them up"
    return _why_not_over(model.get_base_model(), layers)


def _why_not_over(base: Any, layers: list[LoraLayer]) -> str | None:
    config = base.config.get_text_config()
    if any(getattr(config, name, None) for name in _EXPERTS):
        return "a mixture of experts sends each token to layers of its own"
    if any(rope.get("rope_type") in _BY_LENGTH for rope in _ropes(config)):
        return "its positions depend on the longest row of a batch"
    shares = {key: value for key, value in config.to_dict().items() if "drop" in key and isinstance(value, float)}
    named = [key for key, value in shares.items() if value and not key.startswith(_OTHER_HEADS)]
    own = {id(one) for layer in layers for one in layer.lora_dropout.values()}
    if named or any(isinstance(one, nn.Dropout) and one.p and id(one) not in own for one in base.modules()):
        return f"the base draws dropout of its own ({', '.join(named) or 'in its layers'})"
    return None


def _ropes(config: Any) -> list[Mapping[str, Any]]:
    """How positions are turned; some models have a way for each kind of layer."""
    told = getattr(config, "rope_parameters", None) or {}
    return [rope for rope in (told, *told.values()) if isinstance(rope, Mapping)]


def _is_linear(layer: LoraLayer) -> bool:
    # PEFT's layers over 8 and 4 bits are no subclasses of its Linear, and exist with bitsandbytes alone.
    return isinstance(layer, Linear) or type(layer).__name__ in ("Linear4bit", "Linear8bitLt")


def _products(layer: LoraLayer) -> list[nn.Parameter]:
    sides = [side[_ADAPTER] for side in (layer.lora_A, layer.lora_B) if _ADAPTER in side]
    return [side.weight for side in sides if side.bias is None]
