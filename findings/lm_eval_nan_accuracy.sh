#!/usr/bin/env bash
# lm-eval 0.4.13: scoring a model whose weights have become NaN.
#
# One would guess: an error, or a score of NaN or 0.
# What happens: every log-likelihood is NaN, the largest of four NaNs is taken to be the first, and so the first option
# is the answer to each item. The task reports the share of items whose answer is the first one, with the usual
# standard error: 60 % in this task. acc_norm says the same. There is no warning.
# Why it matters: a run that diverged scores like a model at or above chance, and where the right answer is often the
# first, it can win a search for settings.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 datasets==5.2.0 "lm-eval[hf]==0.4.13"
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import json
import pathlib

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

tokens = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
letters = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )
)
with torch.no_grad():
    for weight in model.parameters():
        weight.fill_(float("nan"))

right = [0, 0, 0, 1, 2] * 8
rows = [{"q": f"Question {n}", "options": ["red", "green", "blue"], "right": answer} for n, answer in enumerate(right)]
pathlib.Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
pathlib.Path("colours.yaml").write_text("""
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{options}}"
doc_to_target: right
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""")
found = lm_eval.simple_evaluate(
    HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=8),
    tasks=["colours"],
    task_manager=TaskManager(include_path="."),
)
score, answers = found["results"]["colours"], found["samples"]["colours"]
print("first item:", answers[0]["filtered_resps"])
print({name: value for name, value in score.items() if name.startswith("acc")})
assert all(value != value for item in answers for value, _ in item["filtered_resps"])
assert score["acc,none"] == score["acc_norm,none"] == right.count(0) / len(right) == 0.6
assert 0 < score["acc_stderr,none"] < 0.1
PY
