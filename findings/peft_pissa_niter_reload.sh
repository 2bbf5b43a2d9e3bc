#!/usr/bin/env bash
# peft 0.21.2: saving and loading an adapter that starts as fast PiSSA ("pissa_niter_4").
#
# One would guess: a saved adapter on the same base gives the same model, as with every other kind of start.
# What happens: PiSSA takes its start out of the base weights. The file holds the adapter alone, and loading runs the
# decomposition again to find what to take out. Fast SVD is random, so another part is taken out: the logits of a
# loaded adapter, not trained at all, are off by up to 0.4 of the largest. Exact "pissa" and "olora" repeat themselves.
# Loading twice gives two models. There is no warning.
# Why it matters: the model that was evaluated is not the one that was saved. Only a conversion to a plain adapter, by
# path_initial_model_for_weight_conversion with the start saved before training, keeps it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 peft==0.21.2
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import warnings

import torch
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


def answers(model):
    with torch.no_grad():
        return model.eval()(probe).logits


def base():
    return LlamaForCausalLM.from_pretrained("base")


for start in (True, "pissa", "olora", "pissa_niter_4"):
    lora = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=start)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = get_peft_model(base(), lora)
        saved = answers(model)
        model.save_pretrained("adapter")
        loaded, again = (answers(PeftModel.from_pretrained(base(), "adapter")) for _ in range(2))
    largest = saved.abs().max()
    off, apart = ((loaded - saved).abs().max() / largest).item(), ((again - loaded).abs().max() / largest).item()
    print(f"{start}: loaded differs by {off:.2g} of the largest logit; two loads by {apart:.2g}")
    assert not any("pissa" in str(warning.message).lower() for warning in said)
    if start == "pissa_niter_4":
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained("start")
        model.peft_config["default"].init_lora_weights = start
        model.save_pretrained("converted", path_initial_model_for_weight_conversion="start")
        kept = ((answers(PeftModel.from_pretrained(base(), "converted")) - saved).abs().max() / largest).item()
        print(f"{start}, converted: loaded differs by {kept:.2g} of the largest logit")
        assert kept < 1e-4 and off > 0.05 and apart > 0.001
    else:
        assert off < 1e-4 and apart < 1e-4
PY
