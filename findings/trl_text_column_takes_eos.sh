#!/usr/bin/env bash
# trl 1.16.0: SFTTrainer on prompt and completion, with another column in the data.
#
# One would guess: columns other than prompt and completion are left aside, whatever their names.
# What happens: one named "text" gets the end token that belongs to the completion. The model is then trained on
# prompt and completion, and the completion has no end. A column of any other name changes nothing. No warning.
# Why it matters: many datasets keep the source in "text". A model that was tuned so never learns to stop: it writes
# until the limit, and metrics that compare whole answers fall.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 datasets==5.2.0 trl==1.16.0
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import warnings

import datasets
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

datasets.disable_progress_bars()
tokens = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
letters = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(
    vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
    pad_token_id=0, bos_token_id=1, eos_token_id=1,
)


def trained_on(**extra):
    row = {"prompt": "Who? ", "completion": "me", **extra}
    settings = SFTConfig("out", max_steps=1, report_to="none", use_cpu=True, bf16=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows, model = datasets.Dataset.from_list([row]), LlamaForCausalLM(config)
        trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
    assert not any("eos" in str(warning.message).lower() for warning in said)
    labels = [label for label in trainer.train_dataset[0]["labels"] if label != -100]
    return tokenizer.convert_ids_to_tokens(labels), trainer.train_dataset[0]


plain, _ = trained_on()
other, _ = trained_on(source="a book")
text, row = trained_on(text="a book")
print("labels, prompt and completion only:", plain)
print("labels, with a column source:      ", other)
print("labels, with a column text:        ", text, "| text is now", repr(row["text"]))
assert plain == other == ["m", "e", "<eos>"]
assert text == ["m", "e"] and row["text"] == "a book<eos>"
PY
