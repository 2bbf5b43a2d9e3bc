"""What a base is made of, counted from its config alone: built on torch's meta device, no weight is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, Fault, TuneryError, first_line
from tunery.models.files import check_remote_code, read_config
from tunery.models.libraries import quiet_libraries
from tunery.models.quantize import fused_experts
from tunery.models.source import check_hub, local_folder, local_gguf
from tunery.models.targets import is_router

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
# Projections that read the heads' outputs; all others of an attention block read the same normalised stream.
_OUT = ("o_proj", "out_proj", "dense", "c_proj", "wo")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k")
# Kinds of layers that see so many tokens back, and where the config says how many.
_WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
_DROPOUTS = ("hidden_dropout", "resid_pdrop", "resid_dropout", "residual_dropout", "dropout")


@dataclass(frozen=True)
class Linear:
    """A matrix of shape (outputs, inputs)."""

    name: str
    inputs: int
    outputs: int
    quantised: bool  # whether bitsandbytes would replace it; it never does the output head
    reads: str = ""  # which input it shares with others of its layer: stream:attention, stream:mlp, heads, or inner

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    linears: tuple[Linear, ...]
    norms: int  # normalisations as wide as the stream
    head_norms: int  # numbers a token in queries and keys that are normalised head by head (Gemma 3, Qwen 3)
    fused_norm: bool  # nn.LayerNorm, one kernel; otherwise an RMS norm written out, which works in fp32
    inner: int  # width between the dense MLP's matrices
    gated: bool  # the MLP multiplies two halves (SwiGLU, GeGLU)
    kept: int  # tensors as wide as `inner` that the activation function keeps for its backward pass
    keeps_result: bool  # one of them is what it gives (ReLU), so that the next matrix keeps no other
    experts: int = 0  # weights in fused expert parameters
    expert_inner: int = 0  # width inside one expert
    window: int | None = None  # the most tokens that one sees, itself included; None if all before it


@dataclass(frozen=True)
class Architecture:
    """Shapes of a causal language model."""

    name: str  # class in transformers
    model: Any  # on the meta device: names and shapes without storage
    parameters: dict[str, tuple[int, ...]]  # shape of every parameter by name; tied ones once
    layers: tuple[Layer, ...]
    head: Linear  # the output head's matrix
    hidden: int
    heads: int
    key_heads: int
    head_width: int
    fused_qkv: bool  # one matrix makes queries, keys and values, whose views keep it alive
    attention: str  # sdpa or eager: what transformers chooses for it
    attention_dropout: float
    hidden_dropout: float
    experts_per_token: int
    positions: int | None  # longest sequence that the config names, or None
    tied: bool
    capped_scores: bool  # squeezed by a tanh, which is kept (Gemma 2)
    capped_logits: bool  # the same

    @property
    def parameter_count(self) -> int:
        """Number of weights, tied ones once."""
        return sum(map(prod, self.parameters.values()))


def architecture_of(base: BaseConfig, folder: Path) -> Architecture:
    """Count a base's shapes; of a hub id only config.json is fetched.

    Args:
        base: The section `base`.
        folder: Folder of project.yaml; a local model is looked for here first, then in the working folder.

    Raises:
        BaseModelError: If it is not there, the hub does not answer, or transformers does not know the architecture.
    """
    quiet_libraries()
    place = _local(base, folder) or _cached(base) or _fetched(base)
    if not (place / "config.json").is_file():
        rule = "a folder or repository with config.json"
        raise BaseModelError(base.model, Fault("base.model", rule, base.model, "Is it a transformers model?"))
    config = read_config(base.model, place)
    check_remote_code(base.model, config, base.trust_remote_code)
    return _counted(base.model, place, json.dumps(config, sort_keys=True), base.trust_remote_code)


def _local(base: BaseConfig, folder: Path) -> Path | None:
    file = local_gguf(base.model, folder)
    return file.config() if file is not None else local_folder(base.model, folder)


def _cached(base: BaseConfig) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if base.trust_remote_code:
        return None  # its Python files are needed too
    try:
        found = try_to_load_from_cache(base.model, "config.json", revision=base.revision)
    except HFValidationError:
        return None  # the hub's own check says what is wrong
    return Path(found).parent if isinstance(found, str) else None


def _fetched(base: BaseConfig) -> Path:
    from huggingface_hub import snapshot_download

    commit = check_hub(base)
    if commit is None:
        rule = "in the local cache when the Hugging Face Hub cannot be reached, and it is not"
        advice = "Check the network (and HF_HUB_OFFLINE), or name a local folder or builtin:tiny."
        raise BaseModelError(base.model, Fault("base.model", rule, base.model, advice))
    wanted = ["config.json", "*.py"] if base.trust_remote_code else ["config.json"]
    try:
        return Path(snapshot_download(base.model, revision=commit, allow_patterns=wanted))
    except OSError as error:  # huggingface_hub's and the disk's
        raise BaseModelError(base.model, f"its config.json cannot be fetched ({str(error)[:120]}).") from error


@lru_cache(maxsize=16)
def _counted(name: str, place: Path, text: str, trust_remote_code: bool) -> Architecture:
    """Once per config: a study asks again for every trial. `text` is the config, so that a changed file counts anew."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        model.name_or_path = name
        return _census(model)
    except TuneryError:
        raise
    except Exception as error:  # configs of others: KeyError, ValueError and TypeError were seen
        reason = first_line(error).rstrip(".")[:200]
        rule = f"a causal language model whose architecture transformers knows ({reason})"
        raise BaseModelError(name, Fault("base.model", rule, name, "Look at config.json's model_type.")) from error


def _census(model: Any) -> Architecture:
    config = model.config.get_text_config()
    layers = dict(decoder_layers(model))
    heads, key_heads, head_width = _heads(config)
    counted = tuple(
        replace(_layer(model, path, layer, config), window=window)
        for (path, layer), window in zip(layers.items(), _windows(config), strict=True)
    )
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    vocabulary, width = head.weight.shape if head is not None else embedding.weight.shape
    return Architecture(
        name=type(model).__name__,
        model=model,
        parameters={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        layers=counted,
        head=Linear("head", int(width), int(vocabulary), quantised=False),
        hidden=int(config.hidden_size),
        heads=heads,
        key_heads=key_heads,
        head_width=head_width,
        fused_qkv=any(map(_is_fused, counted[0].linears)),
        attention=str(getattr(config, "_attn_implementation", None) or "eager"),
        attention_dropout=_first(config, ("attention_dropout", "attn_pdrop"), 0.0),
        hidden_dropout=_first(config, _DROPOUTS, 0.0),
        experts_per_token=int(_first(config, _EXPERTS_PER_TOKEN, 1)),
        positions=getattr(config, "max_position_embeddings", None),
        tied=head is None or head.weight is embedding.weight,
        capped_scores=bool(getattr(config, "attn_logit_softcapping", None)),
        capped_logits=bool(getattr(config, "final_logit_softcapping", None)),
    )


def decoder_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The repeated blocks with their names: the first list of modules that is as long as the config says."""
    from torch.nn import ModuleList

    config = model.config.get_text_config()
    for path, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == config.num_hidden_layers:
            yield from ((f"{path}.{place}", layer) for place, layer in enumerate(module))
            return
    raise ValueError(f"no list of {config.num_hidden_layers} layers in {type(model).__name__}")


def _windows(config: Any) -> list[int | None]:
    """Of each layer; a config that names no kinds, as Mistral's, means one for all of them."""
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [getattr(config, _WINDOWS[kind], None) if kind in _WINDOWS else None for kind in kinds]


def _layer(model: Any, path: str, layer: Any, config: Any) -> Layer:
    hidden = int(config.hidden_size)
    linears = tuple(_linears(model, path, layer, hidden))
    named_norms = [module for module in layer.modules() if "norm" in type(module).__name__.lower()]
    norms = [norm for norm in named_norms if getattr(getattr(norm, "weight", None), "shape", None) == (hidden,)]
    ups = sum(linear.outputs for linear in linears if linear.reads == "stream:mlp")
    inner = sum(linear.inputs for linear in linears if linear.reads == "inner")
    experts = [tuple(getattr(module, name).shape) for module, name, _ in fused_experts(layer)]
    inside = [min(set(shape[1:]) - {hidden}, default=hidden) for shape in experts]  # of the two matrices, 2 I and I
    activation = str(_first(config, ("hidden_act", "activation_function", "hidden_activation"), ""))
    return Layer(
        linears=linears,
        norms=len(norms),
        head_norms=_head_norms(layer, config),
        fused_norm=bool(norms) and type(norms[0]).__name__ == "LayerNorm",
        inner=inner,
        gated=ups >= 2 * inner > 0,
        # gelu_new is written out in Python and keeps x, 0.5 x, tanh(...) and 1 + tanh(...); fused ones keep x.
        kept=4 if activation in ("gelu_new", "gelu_fast", "gelu_accurate") else 1,
        keeps_result=activation == "relu",
        experts=sum(map(prod, experts)),
        expert_inner=min(inside, default=0),
    )


def _head_norms(layer: Any, config: Any) -> int:
    heads, key_heads, width = _heads(config)
    rows = {"q_norm": heads, "k_norm": key_heads}
    named = ((name.rpartition(".")[0].rpartition(".")[2], weight) for name, weight in layer.named_parameters())
    return sum(rows[leaf] * width for leaf, weight in named if leaf in rows and weight.shape == (width,))


def _heads(config: Any) -> tuple[int, int, int]:
    """Heads, heads of keys, and the width of one."""
    heads = int(config.num_attention_heads)
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    return heads, key_heads, int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def _linears(model: Any, path: str, layer: Any, hidden: int) -> Iterator[Linear]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, module in layer.named_modules(prefix=path):
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        inputs, outputs = module.weight.shape[::-1] if isinstance(module, nn.Linear) else module.weight.shape
        inside, leaf = name.removeprefix(path), name.rpartition(".")[2]
        if is_router(model, name, module):
            reads = "router"
        elif _ATTENTION.search(inside):
            reads = "heads" if leaf in _OUT and outputs == hidden else "stream:attention"
        else:
            reads = "inner" if outputs == hidden and (inputs != hidden or "down" in leaf) else "stream:mlp"
        yield Linear(name, int(inputs), int(outputs), type(module) is nn.Linear or isinstance(module, Conv1D), reads)


def _is_fused(linear: Linear) -> bool:
    leaf = linear.name.rpartition(".")[2].lower()
    return linear.reads == "stream:attention" and ("qkv" in leaf or leaf in ("c_attn", "query_key_value"))


def _first(config: Any, keys: tuple[str, ...], default: Any) -> Any:
    return next((value for key in keys if (value := getattr(config, key, None)) is not None), default)
