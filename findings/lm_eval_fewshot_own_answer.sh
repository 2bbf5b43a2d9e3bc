#!/usr/bin/env bash
# lm-eval 0.4.13: few-shot examples of a task that has a single split.
#
# One would guess: an item is never among its own examples; the sampler has a step that takes it out.
# What happens: that step runs only if the task names fewshot_split and it equals test_split. A task with a test split
# alone, or with validation_split and fewshot_split both "validation" and no test split, draws from all items: with 5
# examples from 20 items, 8 of the 20 questions stand in their own prompt, with the right answer.
# Naming fewshot_split: test, the same data, takes them out.
# Why it matters: few-shot scores of a small custom task are too high, by up to the share of examples in the items,
# and rise with the number of examples as if the model had learnt from them.
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
rows = [{"q": f"Question {n}?", "options": ["red", "green"], "right": n % 2} for n in range(20)]
pathlib.Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
splits = {
    "test_alone": "test_split: test",
    "validation_twice": "validation_split: validation\nfewshot_split: validation",
    "test_named_twice": "test_split: test\nfewshot_split: test",
}
for name, lines in splits.items():
    split = "validation" if "validation" in lines else "test"
    pathlib.Path(f"{name}.yaml").write_text(f"""
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{{split}: items.jsonl}}}}
{lines}
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: right
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
""")
found = lm_eval.simple_evaluate(
    HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=8),
    tasks=list(splits),
    num_fewshot=5,
    bootstrap_iters=0,
    task_manager=TaskManager(include_path="."),
)


def prompt(item):
    return item["arguments"][0][0]


leaked = {}
for name in splits:
    items = found["samples"][name]
    shown = [item for item in items if prompt(item).count(item["doc"]["q"]) > 1]
    leaked[name] = len(shown)
    print(f"{name}: {len(shown)} of {len(items)} questions are in their own examples")
    if name == "test_alone":
        item = shown[0]
        answered = f"{item['doc']['q']} {item['doc']['options'][item['doc']['right']]}"
        print(f"  asked {item['doc']['q']!r} after {prompt(item)!r}")
        assert answered in prompt(item)
assert leaked["test_alone"] > 0 and leaked["validation_twice"] > 0 and leaked["test_named_twice"] == 0
PY
