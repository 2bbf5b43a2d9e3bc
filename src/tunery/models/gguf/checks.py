"""What transformers would misread in a GGUF file without a word: found, and refused or put right.

Its reader drops settings and tensors that it has no place for. A model comes out all the same, and answers otherwise.
Source: transformers 5.23.0, modeling_gguf_pytorch_utils.py (load_gguf_checkpoint) and integrations/gguf.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tunery.errors import BaseModelError, Fault
from tunery.models.files import first_few

# Divisors of the rotary frequencies: how llama.cpp writes the long-context scaling of Llama 3.1 and later.
_ROPE_DIVISORS = "rope_freqs.weight"
_FOLDER = "Name a folder or a hub id with the model's safetensors instead."
_CONTROL = 3  # a token's type: matched whole, never cut into pieces

# Their text is split as GPT-2's, which is what transformers does with a name that it does not know.
_SPLIT_AS_GPT2 = {"gpt-2", "default", "smollm", "starcoder", "refact", "command-r", "codeshell", "mpt", "olmo"}


def check_whole(model: str, metadata: Mapping[str, Any]) -> None:
    """Refuse a part of a model: one of several files, an adapter, or an image tower."""
    if int(metadata.get("split.count", 1)) > 1:
        advice = "Join the parts first: llama-gguf-split --merge FIRST_PART OUT."
        raise BaseModelError(model, Fault("base.model", "one whole GGUF file, not a part", model, advice))
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise BaseModelError(model, Fault("base.model", f"a model, and this file holds: {kind}", model))


def check_settings(model: str, metadata: Mapping[str, Any], config: Any) -> None:
    """Refuse a file with a setting of its architecture that the config, as transformers read it, does not have.

    Raises:
        BaseModelError: With every such setting.
    """
    architecture = str(metadata["general.architecture"])
    prefix = f"{architecture}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    read = _settings_read(architecture)
    if read is None:  # a reader of its own, which takes every setting
        return
    faults = [
        Fault(f"{architecture}.{key}", "a setting that transformers reads", value, _FOLDER)
        for key, value in own.items()
        if key not in read and not _agrees(key, value, config)
    ]
    if architecture == "gemma3" and own.get("block_count") == 62:  # 27B, whose scores are scaled by another width
        faults.append(Fault("gemma3", "a size whose attention transformers scales rightly", "27B", _FOLDER))
    if faults:
        raise BaseModelError(model, faults)


def settle_positions(model: str, path: Path, config: Any) -> None:
    """Give the config the scaling of rotary frequencies that the file holds as a tensor, which transformers drops.

    Raises:
        BaseModelError: If the tensor is not the scaling of Llama 3.1.
    """
    from gguf import GGUFReader
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if _ROPE_DIVISORS not in _tensor_names(path):
        return
    found = next(tensor.data for tensor in GGUFReader(path).tensors if tensor.name == _ROPE_DIVISORS)
    plain = dict(config.rope_parameters)
    config.rope_parameters = {
        **plain,
        "rope_type": "llama3",
        "factor": float(found.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    width = _head_width(config)
    divisors = [plain["rope_theta"] ** (-2 * pair / width) / float(rate) for pair, rate in enumerate(scaled)]
    if len(divisors) != len(found) or not all(map(_close, divisors, map(float, found))):
        rule = "the scaling of Llama 3.1, the only one that can be read from it"
        raise BaseModelError(model, Fault(f"the tensor {_ROPE_DIVISORS}", f"{rule}. {_FOLDER}".rstrip(".")))


def check_weights(model: str, path: Path, loaded: Any, report: Mapping[str, Any]) -> None:
    """Refuse a model that has not every tensor of the file, or has weights that the file does not hold.

    Args:
        loaded: The model that transformers made.
        report: Its loading info: missing_keys, unexpected_keys, mismatched_keys.

    Raises:
        BaseModelError: With the tensors' names.
    """
    unread = set(report["unexpected_keys"]) | (_tensor_names(path) - _claimed(path, loaded) - {_ROPE_DIVISORS})
    found = {
        "a file with every weight of its architecture: {} missing": report["missing_keys"],
        "a file whose weights have its settings' shapes: {} have not": [key for key, *_ in report["mismatched_keys"]],
        "a file whose weights transformers reads: {} have no place": unread,
    }
    faults = [
        Fault("base.model", rule.format(first_few(names)), model, _FOLDER) for rule, names in found.items() if names
    ]
    if faults:
        raise BaseModelError(model, faults)


def check_tokenizer(model: str, path: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that cuts text into other tokens than the file's: each rule is one that transformers skips.

    Raises:
        BaseModelError: With every fault.
    """
    from transformers.integrations.gguf import get_gguf_tokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    _, own, special = get_gguf_tokenizer(str(path))
    faults: list[Fault | str] = []
    splits = own.get("pre_tokenizer_type", "default")
    if own["tokenizer_type"] == "gpt2" and splits not in {*GGUF_PRE_TOKENIZER_SPLITS, *_SPLIT_AS_GPT2}:
        faults.append(Fault("tokenizer.ggml.pre", "a way to split text that transformers knows", splits, _FOLDER))
    if own["tokenizer_type"] == "llama" and "add_prefix_space" in own:
        begins = tokenizer.tokenize("x")[0].startswith("\u2581")
        if begins != own["add_prefix_space"]:
            rule = f"{begins}, which is what transformers does with this architecture"
            faults.append(Fault("tokenizer.ggml.add_space_prefix", rule, own["add_prefix_space"], _FOLDER))
    for token, place in _whole_tokens(own, special):
        if tokenizer.encode(token, add_special_tokens=False) != [place]:
            rule = f"one token, {place}, and is cut into pieces. {_FOLDER}".rstrip(".")
            faults.append(Fault(f"the token {token!r}", f"must be {rule}"))
    if faults:
        raise BaseModelError(model, faults)


def drop_invented_tokens(saved: Path, count: int) -> None:
    """Take out of a saved tokenizer.json what the file does not hold, such as GPT-2's <|endoftext|> in a Llama 3.

    It would be a token past the embedding's last row.

    Args:
        saved: The tokenizer's folder.
        count: Tokens in the file.
    """
    file = saved / "tokenizer.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["added_tokens"] = [token for token in tree["added_tokens"] if token["id"] < count]
    if tree["model"].get("unk_token") not in tree["model"]["vocab"]:
        tree["model"]["unk_token"] = None
    file.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


def _settings_read(architecture: str) -> set[str] | None:
    """Names of the settings that transformers takes from a file; None if it takes them all."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    if architecture in GGUF_CONFIG_ARCHS:
        return None
    named = GGUF_CONFIG_MAPPING.get(architecture) or GGUF_CONFIG_MAPPING.get(_renamed(architecture), {})
    return {key for key, attribute in named.items() if attribute is not None}


def _renamed(architecture: str) -> str:
    """As transformers spells it: qwen2moe is qwen2_moe, gpt-oss is gpt_oss."""
    return architecture.replace("-", "_").replace("moe", "_moe")


def _agrees(key: str, value: object, config: Any) -> bool:
    expected = _EXPECTED.get(key)
    try:
        wanted = expected(config) if expected is not None else None
    except AttributeError:  # the config has no such setting
        return False
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return _close(value, wanted)
    return expected is not None and value == wanted


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rotary_share(config: Any) -> float:
    parameters = getattr(config, "rope_parameters", None) or {}
    return float(parameters.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4)  # a file holds float32


def _tensor_names(path: Path) -> set[str]:
    from transformers.integrations.gguf import read_gguf_metadata

    return set(read_gguf_metadata(str(path))[1])


def _claimed(path: Path, loaded: Any) -> set[str]:
    """Names of the tensors that some parameter of the model is made of."""
    from transformers.integrations.gguf import is_gguf_arch_supported, read_gguf_metadata
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    architecture = read_gguf_metadata(str(path))[0]["general.architecture"]
    if is_gguf_arch_supported(architecture):  # unexpected_keys names what is left over
        return _tensor_names(path)
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=loaded.config.to_dict())
    return set(get_gguf_hf_weights_map(loaded, processor))


def _whole_tokens(own: Mapping[str, Any], special: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """The special tokens, and those control tokens that the file's chat template writes."""
    template = str(special.get("chat_template") or "")
    named = {special.get(name) for name in ("bos_token", "eos_token")}
    kinds = own.get("token_type") or []
    for place, (token, kind) in enumerate(zip(own["tokens"], kinds, strict=False)):
        if token in named or (kind == _CONTROL and len(token) > 1 and token in template):
            yield token, place


# Settings that transformers leaves to its defaults: what they must be for the model to be the file's.
_EXPECTED: dict[str, Callable[[Any], Any]] = {
    "attention.key_length": _head_width,
    "attention.value_length": _head_width,
    "rope.dimension_count": lambda config: int(_head_width(config) * _rotary_share(config)),
    "attention.sliding_window": lambda config: config.sliding_window,
    "attn_logit_softcapping": lambda config: config.attn_logit_softcapping,
    "final_logit_softcapping": lambda config: config.final_logit_softcapping,
    "expert_feed_forward_length": lambda config: config.moe_intermediate_size,
    "expert_shared_feed_forward_length": lambda config: config.shared_expert_intermediate_size,
    "attention.causal": lambda _: True,
    "rope.scaling.type": lambda _: "none",
    "rope.scaling.finetuned": lambda _: False,
    "attention.layer_norm_epsilon": lambda config: config.layer_norm_eps,
    "expert_count": lambda _: 0,  # Llama files of dense models name it too
    "expert_used_count": lambda _: 0,
}
