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
from tunery.reporting.text import listed

MERGE = "Export it merged: --to merged."
# The values that `--max-lora-rank` takes.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

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
    return [*_settings(config), *_matrices(config["r"], tensors)]


def rank_option(rank: int) -> int:
    """The smallest value of `--max-lora-rank` that the rank of an adapter without faults fits in."""
    return min(allowed for allowed in RANKS if allowed >= rank)


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
    rank, kind = config["r"], str(config.get("peft_type", "LORA")).upper()
    # The two patterns are ignored by every release up to 0.26.
    rules = {
        "peft_type": (kind == "LORA", "LORA: vLLM loads no other adapters"),
        "use_dora": (not config.get("use_dora"), "false: vLLM does not support DoRA"),
        "bias": (config.get("bias", "none") == "none", "'none': vLLM takes no adapter bias"),
        "modules_to_save": (not config.get("modules_to_save"), "empty: vLLM loads no whole modules"),
        "rank_pattern": (not config.get("rank_pattern"), "empty: vLLM scales every module by lora_alpha / r"),
        "alpha_pattern": (not config.get("alpha_pattern"), "empty: vLLM scales every module by lora_alpha / r"),
        "r": (rank <= RANKS[-1], f"at most {RANKS[-1]}"),
    }
    return [Fault(key, rule, config[key], MERGE) for key, (holds, rule) in rules.items() if not holds]


def _matrices(rank: int, tensors: Shapes) -> list[Fault]:
    """vLLM raises `... is unsupported LoRA weight` for tensors that are not pairs, and scales other ranks wrongly."""
    if not tensors:
        return [Fault(f"{WEIGHTS} holds no tensors", advice="Train the adapter again.")]
    found = {name: _MATRIX.fullmatch(name) or _EMBEDDING.fullmatch(name) for name in tensors}
    strange = sorted(name for name, match in found.items() if match is None)
    sides: dict[str, set[str]] = {}
    for match in filter(None, found.values()):
        sides.setdefault(match["module"], set()).add(match["side"][-1])
    other_ranks = [
        f"{name} ({shape[0]})"
        for name, shape in sorted(tensors.items())
        if name.endswith(".lora_A.weight")
        and shape
        and shape[0] != rank
        and ".experts." not in name  # one matrix has r rows for each expert
    ]
    again = "Train the adapter again."
    named = "named base_model.model.<module>.lora_A.weight or lora_B.weight: vLLM loads no other tensor"
    tokens = "absent: vLLM loads no trained tokens (here those of the added chat template)"
    rules = (
        ([name for name in strange if "trainable_tokens" in name], tokens, MERGE),
        ([name for name in strange if "trainable_tokens" not in name], named, MERGE),
        (sorted(module for module, there in sides.items() if len(there) < 2), "in both lora_A and lora_B", again),
        (other_ranks, f"of rank {rank}, as {CONFIG} says", again),
    )
    return [Fault(listed(names, _SHOWN), rule, advice=advice) for names, rule, advice in rules if names]
