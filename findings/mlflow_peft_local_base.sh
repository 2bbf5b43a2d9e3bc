#!/usr/bin/env bash
# mlflow 3.17.2, peft 0.21.2: mlflow.transformers.log_model of an adapter whose base is a folder.
#
# One would guess: base and adapter are saved, and loading gives the model that was logged.
# What happens: the base is written with the names it has inside the adapter, q_proj.base_layer.weight. Loading looks
# for q_proj.weight, does not find it, and fills those layers with random numbers; the adapter is then put on top.
# log_model and load_model both succeed; only a load report tells of missing weights. Loading twice gives two models.
# Why it matters: with a base from the hub just its name is kept, and all is well. With a base of one's own the
# registered model is broken in exactly the layers that were tuned, and what was evaluated is lost.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 mlflow==3.17.2
cd "$folder"

MLFLOW_TRACKING_URI=sqlite:///mlflow.db HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import logging
import os
import pathlib

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
import mlflow
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

logging.disable(logging.WARNING)
words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "yes": 2, "no": 3}, unk_token="<pad>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
torch.manual_seed(0)
size = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
size |= {"num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
LlamaForCausalLM(LlamaConfig(**size)).save_pretrained("base")
tokenizer.save_pretrained("base")
model = get_peft_model(LlamaForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules="all-linear"))
for name, weight in model.named_parameters():
    if ".lora_B." in name:
        torch.nn.init.normal_(weight, std=0.1)
probe = torch.arange(2, 60)[None]


def answers(model):
    with torch.no_grad():
        return model.eval()(probe).logits


def loaded():
    return answers(mlflow.transformers.load_model(uri, return_type="components")["model"])


logged = answers(model)
parts = {"model": model, "tokenizer": tokenizer}
# Its own list of requirements: without one, log_model needs torchvision for this model of text.
with mlflow.start_run():
    saved = mlflow.transformers.log_model(parts, name="model", task="text-generation", pip_requirements=["torch"])
uri = saved.model_uri
folder = pathlib.Path(mlflow.artifacts.download_artifacts(uri))
with safe_open(folder / "model" / "model.safetensors", "pt") as file:
    names = [name for name in file.keys() if "layers.0.self_attn.q_proj" in name]
first, second = loaded(), loaded()
largest = logged.abs().max()
off, apart = ((first - logged).abs().max() / largest).item(), ((second - first).abs().max() / largest).item()
print("saved for one layer:", names)
print(f"loaded differs by {off:.2g} of the largest logit, two loads by {apart:.2g}")
assert "model.layers.0.self_attn.q_proj.base_layer.weight" in names
assert "model.layers.0.self_attn.q_proj.weight" not in names
assert off > 0.1 and apart > 0.1
PY
