"""Which model lm-eval scored: base, adapter, revision and quantisation, as each of its backends names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What lm-eval's backends call what is laid over a base: hf (peft, delta), vllm, sglang, steered.
_OVER_THE_BASE = ("peft", "delta", "lora_local_path", "lora_paths", "steer_path")
# What they call the base: hf and vllm; servers; nemo_lm; megatron_lm; textsynth, and openai before 0.4; watsonx.
_BASE = ("pretrained", "model", "path", "load", "engine", "model_id")
_QUANTISED = {
    "load_in_4bit": "fp4", "load_in_8bit": "int8", "autogptq": "gptq", "gptqmodel": "gptq", "gguf_file": "gguf",
}  # fmt: skip
_NOTHING = ("", "none", "null", "false", "0")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ScoredModel:
    """The model of a result file."""

    name: str  # the adapter's, else the base's
    base: str  # the address of the server, where that is all that the file tells
    adapter: str | None
    revision: str  # of a bare base
    settings: Mapping[str, str]
    is_served: bool  # whether only a server's address is known


def scored_model(tree: Mapping[str, Any]) -> ScoredModel:
    """Read the model from a result file's `config`."""
    config = tree["config"]
    given = arguments(config.get("model_args"))
    adapter = next((str(given[key]) for key in _OVER_THE_BASE if _is_set(given.get(key))), None)
    named = next((str(given[key]) for key in _BASE if _is_set(given.get(key))), None)
    address = str(given.get("base_url") or "")
    base = named or address or _without_arguments(tree)
    return ScoredModel(
        name=_short_name(adapter or base),
        base=base,
        adapter=adapter,
        revision="" if adapter is not None else str(config.get("model_sha") or ""),
        settings={"model": adapter or base, **_settings(tree, given)},
        is_served=named is None and bool(address),
    )


def arguments(told: object) -> dict[str, Any]:
    """model_args as a mapping; lm-eval writes "a=b,c=d", JSON or a mapping."""
    if isinstance(told, Mapping):
        return dict(told)
    text = str(told or "").strip()
    if text.startswith("{"):
        return dict(json.loads(text))
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _is_set(value: object) -> bool:
    return str(value if value is not None else "").strip().lower() not in _NOTHING


def _without_arguments(tree: Mapping[str, Any]) -> str:
    """A model that was handed over as an object: lm-eval writes its name or path, or no more than its class."""
    told = str(tree["config"].get("model") or "")
    return UNKNOWN if not told or told.endswith("LM") else told


def _settings(tree: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    known = {key: str(value) for key, value in given.items() if key not in ("pretrained", "quantization")}
    quantization = _quantization(given)
    known |= {"quantization": quantization} if quantization else {}
    return {**known, "lm_eval": str(tree.get("lm_eval_version", ""))}


def _quantization(given: Mapping[str, Any]) -> str:
    """As our own runs call it; "" if a file does not tell, as of a model behind a server."""
    found = next((name for key, name in _QUANTISED.items() if _is_set(given.get(key))), None)
    if found == "fp4" and given.get("bnb_4bit_quant_type") == "nf4":
        return "nf4"
    if found is None and _is_set(given.get("quantization")):  # vllm's and sglang's
        return str(given["quantization"])
    is_served = "base_url" in given or "pretrained" not in given
    return found or ("" if is_served else "none")


def _short_name(model: str) -> str:
    """A hub id as it is; of a path its last part."""
    is_path = model.startswith((".", "/", "~")) or (model.count("/") > 1 and "://" not in model)
    return Path(model).name if is_path else model
