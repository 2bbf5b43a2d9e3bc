"""Checks whether vLLM would load an adapter folder, without vLLM. Pure, except `read_adapter`.

Source: vLLM v0.26, vllm/lora/peft_helper.py (config), vllm/lora/lora_model.py and vllm/lora/utils.py (tensors),
vllm/config/lora.py (ranks).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.errors import Fault
from tunery.models.adapter_files import CONFIG, WEIGHTS

MERGE = "Export it merged: --to merged."
# The values that `--max-lora-rank` takes.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK = 16

_REQUIRED = ("r", "lora_alpha", "target_modules")
_MATRIX = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<side>lora_A|lora_B)\.weight")
_EMBEDDING = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<side>lora_embedding_A|lora_embedding_B)")
_SHOWN = 3

Shapes = Mapping[str, Sequence[int]]


def vllm_faults(config: Mapping[str, Any], tensors: Shapes) -> list[Fault]:
    """Why vLLM would refuse an adapter, or load it and compute something else.

    Args:
        config: The contents of adapter_config.json.
        tensors: The shape of every tensor of adapter_model.safetensors, by name.

    Returns:
        All faults; none means that `vllm serve BASE --enable-lora --lora-modules NAME=FOLDER` loads it.
    """
    missing = [key for key in _REQUIRED if config.get(key) in (None, "", [])]
    if missing:
        return [Fault(f"{CONFIG}: {', '.join(missing)}", "present: vLLM needs it", advice=MERGE)]
    return [*_settings(config), *_names(tensors), *_ranks(config, tensors)]


def rank_option(rank: int) -> int:
    """The smallest value of `--max-lora-rank` that an adapter's rank fits in.

    Raises:
        ValueError: If the rank is too large.
    """
    fitting = [allowed for allowed in RANKS if allowed >= rank]
    if not fitting:
        raise ValueError(f"rank {rank} is above {RANKS[-1]}, the largest that vLLM takes")
    return fitting[0]


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read adapter_config.json and the shape of every tensor, but no weights.

    Raises:
        OSError, ValueError: If one of the two files, whose names vLLM requires, cannot be read.
    """
    from safetensors import safe_open

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    with safe_open(str(folder / WEIGHTS), framework="numpy") as file:
        return config, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _settings(config: Mapping[str, Any]) -> list[Fault]:
    """Settings that vLLM refuses, and those that it ignores."""
    faults = []
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        faults.append(Fault("peft_type", "LORA: vLLM loads no other adapters", config["peft_type"], MERGE))
    if config.get("use_dora"):
        faults.append(Fault("use_dora", "false: vLLM does not support DoRA", True, MERGE))
    if config.get("bias", "none") != "none":
        faults.append(Fault("bias", "'none': vLLM takes no adapter bias", config["bias"], MERGE))
    if config.get("modules_to_save"):
        rule = "empty: vLLM loads no whole modules"
        faults.append(Fault("modules_to_save", rule, config["modules_to_save"], MERGE))
    patterns = [
        key for key in ("rank_pattern", "alpha_pattern") if config.get(key)
    ]  # ignored by every release up to 0.26
    faults += [Fault(key, "empty: vLLM scales every module by lora_alpha / r", config[key], MERGE) for key in patterns]
    if config["r"] > RANKS[-1]:
        faults.append(Fault("r", f"at most {RANKS[-1]}", config["r"], MERGE))
    return faults


def _names(tensors: Shapes) -> list[Fault]:
    """vLLM raises `... is unsupported LoRA weight` for any tensor that is not one of a pair of matrices."""
    if not tensors:
        return [Fault(f"{WEIGHTS} holds no tensors", advice="Train the adapter again.")]
    found = {name: _MATRIX.fullmatch(name) or _EMBEDDING.fullmatch(name) for name in tensors}
    strange = sorted(name for name, match in found.items() if match is None)
    faults = []
    tokens = [name for name in strange if "trainable_tokens" in name]
    if tokens:
        rule = "absent: vLLM loads no trained tokens (here those of the added chat template)"
        faults.append(Fault(_some(tokens), rule, advice=MERGE))
    others = [name for name in strange if name not in tokens]
    if others:
        rule = "named base_model.model.<module>.lora_A.weight or lora_B.weight: vLLM loads no other tensor"
        faults.append(Fault(_some(others), rule, advice=MERGE))
    sides: dict[str, set[str]] = {}
    for match in filter(None, found.values()):
        sides.setdefault(match["module"], set()).add(match["side"][-1])
    halves = sorted(module for module, there in sides.items() if there != {"A", "B"})
    if halves:
        faults.append(Fault(_some(halves), "in both lora_A and lora_B", advice="Train the adapter again."))
    return faults


def _ranks(config: Mapping[str, Any], tensors: Shapes) -> list[Fault]:
    """vLLM would scale a module whose rank is not r wrongly."""
    other = sorted(
        f"{name} ({shape[0]})"
        for name, shape in tensors.items()
        if name.endswith(".lora_A.weight")
        and shape
        and shape[0] != config["r"]
        and ".experts." not in name  # one matrix has r rows for each expert
    )
    rule = f"of rank {config['r']}, as {CONFIG} says"
    return [Fault(_some(other), rule, advice="Train the adapter again.")] if other else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
