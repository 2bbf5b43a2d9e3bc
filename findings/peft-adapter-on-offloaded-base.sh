#!/usr/bin/env bash
# peft 0.21.2, accelerate 1.15.0, torch 2.13.0: loading an adapter onto a base under accelerate's cpu_offload.
#
# One would guess: the model answers as the same adapter on the same base without offload, or loading fails.
# What happens: between two forwards the base's weights are on "meta". PEFT creates the adapter's beside them,
# and copying the file's into these does nothing; torch warns of it, once a weight. The model then answers: a linear
# layer whose weight has no memory gives a tensor on the CPU that nobody wrote to. Logits are what memory held, others
# at each load, or NaN.
# Why it matters: scores of such a model are no scores. Loaded first and offloaded then, the same adapter answers as it
# should.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import warnings

import torch
from accelerate import cpu_offload
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
config = LlamaConfig(
    vocab_size=100, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)
torch.manual_seed(0)
LlamaForCausalLM(config).save_pretrained("base")
probe = torch.arange(3, 60)[None]


def base():
    return LlamaForCausalLM.from_pretrained("base")


def offloaded():
    return cpu_offload(base(), execution_device=torch.device("cpu"))


def answers(model):
    with torch.no_grad():
        return model.eval()(probe).logits


made = get_peft_model(base(), LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
for name, parameter in made.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter, std=0.5)
made.save_pretrained("adapter")
right = answers(PeftModel.from_pretrained(base(), "adapter"))
size = right.abs().max()
assert (answers(offloaded()) - answers(base())).abs().max() < 1e-4 * size, "offload alone changes nothing"
assert (answers(base()) - right).abs().max() > 0.2 * size, "the adapter changes much"

for load in range(1, 4):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(offloaded(), "adapter")
        found = answers(model)
    told = sum("which is a no-op" in str(warning.message) for warning in said)
    places = {parameter.device.type for name, parameter in model.named_parameters() if "lora_" in name}
    off = ((found - right).abs().max() / size).item()
    print(f"load {load}: adapter on {places}, {told} warnings, logits off by {off:.2g} of the largest")
    assert places == {"meta"} and told == 8
    assert not off < 0.2  # NaN too
    layer = model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"]
    assert layer(torch.ones(1, 64)).device.type == "cpu", "a result, of a weight that is nowhere"

after = cpu_offload(PeftModel.from_pretrained(base(), "adapter"), execution_device=torch.device("cpu"))
off = ((answers(after) - right).abs().max() / size).item()
print(f"loaded first, then offloaded: logits off by {off:.2g} of the largest")
assert off < 1e-4
PY
