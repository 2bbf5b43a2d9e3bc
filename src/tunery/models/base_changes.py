"""What an adapter does to the weights below it, told from its files: whether the base is itself with the adapter off.

PiSSA (arXiv:2404.02948), OLoRA (arXiv:2406.01775), CorDA (arXiv:2406.05223) and LoftQ (arXiv:2310.08659) take a part
out of the base's weights when the adapter is put on; switched off, that part is missing. Biases, replaced modules and
added rows change the base too. Only what is known to leave it alone counts as such: PEFT has new kinds every release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunery.errors import BaseModelError, Fault

# A product of matrices beside a weight, and its magnitude (DoRA): nothing once they are off.
_BESIDE = re.compile(r"\.(lora_[AB]\.weight|lora_embedding_[AB]|lora_magnitude_vector(\.weight)?)$")
# Fields of LoRA's config that change no weight of the base, whatever they are set to.
_HARMLESS = {
    "alora_invocation_tokens", "alpha_pattern", "auto_mapping", "base_model_name_or_path", "corda_config",
    "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "target_parameters", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
# Where A and B start, with the base's weights as they are. A product that is not 0 then is learned on, not taken out.
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


def base_changes(recorded: Mapping[str, Any], weights: Path) -> list[str]:
    """What makes the base another while the adapter is on it, or off again; empty where it stays as it is.

    Args:
        recorded: adapter_config.json.
        weights: The adapter's safetensors.
    """
    return [*config_changes(recorded), *_by_weights(weights)]


def check_start(where: str, recorded: Mapping[str, Any], quantization: str) -> None:
    """Refuse an adapter whose share of the base cannot be taken out of it again as it was for its training.

    Args:
        where: The adapter's folder, for messages.
        recorded: adapter_config.json.
        quantization: base.quantization of the base that it will be put on.

    Raises:
        BaseModelError: If PEFT could not load it, or would load another model than was trained.
    """
    start = str(recorded.get("init_lora_weights"))
    convert = "Convert it with PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...)."
    reason = None
    if start.startswith("pissa_niter_"):
        reason = "a random decomposition of the base, which is drawn anew at each load: 23 to 31 % of it differs"
    elif start.startswith(("corda", "lora_ga")):
        reason = "the rows that it was started with: without them, the base is not the one that it was trained over"
    if reason is not None:
        raise BaseModelError(where, f"init_lora_weights: {start} needs {reason}. {convert}")
    if start in ("pissa", "loftq") and quantization != "none":
        rule = f"none for an adapter that starts by {start}, which takes a part out of 16- or 32-bit weights"
        advice = f"Use --base.quantization none. Or convert the adapter. {convert}"
        raise BaseModelError(where, Fault("base.quantization", rule, quantization, advice))


def config_changes(recorded: Mapping[str, Any]) -> Iterator[str]:
    """The half of `base_changes` that adapter_config.json tells."""
    kind, start, bias = recorded.get("peft_type"), recorded.get("init_lora_weights"), recorded.get("bias")
    if kind != "LORA":
        yield f"peft_type: {kind}"
        return
    if start not in _STARTS:
        yield f"init_lora_weights: {start}"
    if bias not in (None, "none"):
        yield f"bias: {bias}"
    for name, value in recorded.items():
        if value and name not in {*_HARMLESS, "init_lora_weights", "bias"}:
            yield name


def _by_weights(weights: Path) -> Iterator[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        others = sorted(name for name in file.keys() if not _BESIDE.search(name))  # noqa: SIM118 (no mapping)
    if others:
        yield f"weights of its own: {others[0]}" + (f" and {len(others) - 1} more" if len(others) > 1 else "")
