#!/usr/bin/env bash
# lm-eval 0.4.13: acc_norm of a multiple-choice task under a chat template that ends in a line break.
#
# One would guess: acc_norm divides an option's log-likelihood by the option's length, so a model that knows nothing,
# to which every character is as likely as any other, has no preference for long or short options.
# The guess before this was run, from the source: the line break is counted on one side of the division alone.
# What happens: white space at the end of the prompt is moved to the option before it is scored, because tokenizers join
# it with what follows. Its log-likelihood is part of the sum, but its length is not part of the divisor: a short option
# pays more for it per character than a long one. The model that knows nothing then takes the longest option every time;
# without the template it has no preference. Most chat templates end in a line break.
# Why it matters: acc_norm of one model with and without its template differs for this reason alone, and fine-tuning
# that makes the line break more likely moves acc_norm without a better answer.
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

letters = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
spelled = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
spelled.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelled, pad_token="<pad>", eos_token="<eos>")
tokenizer.chat_template = (
    "{% for turn in messages %}{{ turn.role }}:\n{{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )
)
with torch.no_grad():
    for weight in model.parameters():
        weight.zero_()  # every next character is as likely as any other

rows = [{"q": f"Does {n} follow?", "options": ["no", "it may well follow"], "right": 0} for n in range(40)]
pathlib.Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
pathlib.Path("own").mkdir()
pathlib.Path("own/follows.yaml").write_text("""
task: follows
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: multiple_choice
target_delimiter: ""
doc_to_text: "{{q}}"
doc_to_choice: "{{options}}"
doc_to_target: right
metric_list:
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""")


def nats_a_character(chat: bool) -> list[float]:
    found = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=8, softmax_dtype="float64"),
        tasks=["follows"], task_manager=TaskManager(include_path="own"), apply_chat_template=chat,
    )
    (item, *_) = found["samples"]["follows"]
    logliks = [answer[0] for answer in item["filtered_resps"]]
    each = [value / len(option) for value, option in zip(logliks, rows[0]["options"], strict=True)]
    print(f"chat template {chat}: nats a character {each}, acc_norm {found['results']['follows']['acc_norm,none']}")
    return each


short, long = nats_a_character(False)
assert abs(short - long) < 1e-6
short, long = nats_a_character(True)
assert abs(short / long - (3 / 2) / (19 / 18)) < 1e-6  # one character more above the line than below it
PY
echo "as described"
