#!/usr/bin/env bash
# peft 0.21.2, transformers 5.23.0: LoRA on mixture-of-experts models, whose experts are fused 3-D parameters.
#
# One would guess: target_modules="all-linear" adapts the same kinds of weight in every such model, and the usual list
# of projections reaches the experts or raises an error.
# What happens: on Mixtral "all-linear" adapts attention, the experts and also the router. On Qwen2-MoE, GPT-OSS and
# Granite-MoE it leaves the experts, 41 to 77 % of these models, untouched without a word. The list q_proj, v_proj,
# gate_proj, up_proj, down_proj on Mixtral adapts q_proj and v_proj only: its experts answer to w1, w2 and w3.
# A warning on Mixtral says that the rank pattern of gate_up_proj was ignored, yet its rank is 16 where 8 was asked.
# Why it matters: the same setting trains most of one model and none of the experts of the next, and a router that
# was meant to stay as it is moves. The count of trainable parameters is the only sign.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 peft==0.21.2
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import warnings

from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
size = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
size |= {"num_attention_heads": 4, "num_key_value_heads": 4, "num_experts_per_tok": 2}
size |= {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
kinds = {
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 16},
    "granitemoe": {"num_local_experts": 4},
}
usual = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]


def model(kind):
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**size, **kinds[kind]))


def adapted(kind, targets):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wrapped = get_peft_model(model(kind), LoraConfig(r=8, target_modules=targets))
    names = {name.removeprefix("base_model.model.model.layers.0.") for name, _ in wrapped.named_parameters()}
    return wrapped, {n.split(".lora_A")[0] for n in names if ".lora_A" in n}, [str(w.message) for w in said]


for kind in kinds:
    weights = dict(model(kind).named_parameters())
    share = sum(w.numel() for n, w in weights.items() if ".experts." in n) / sum(w.numel() for w in weights.values())
    wrapped, parts, said = adapted(kind, "all-linear")
    fused = {part for part in parts if ".experts" in part}
    print(f"{kind}: experts {share:.0%} of the weights; all-linear adapts {sorted(parts)}")
    assert share > 0.4 and bool(fused) == (kind == "mixtral"), (share, fused)
    # gpt_oss and granitemoe get nothing outside attention; qwen2_moe its shared expert.
    assert ("mlp.gate" in parts) == (kind == "mixtral")
    if kind == "mixtral":
        modules = dict(wrapped.named_modules())
        mlp = "base_model.model.model.layers.0.mlp."
        ranks = {part: modules[mlp + part].r for part in ("gate", "experts", "experts.base_layer")}
        print("  ranks:", ranks, "| warned:", [line for line in said if "rank_pattern" in line])
        assert ranks["experts.base_layer"] == {"default": 16} and any("were ignored" in line for line in said)

_, parts, said = adapted("mixtral", usual)
print(f"mixtral: {usual} adapts {sorted(parts)}")
assert parts == {"self_attn.q_proj", "self_attn.v_proj"}
assert not any("target" in line for line in said), said
PY
