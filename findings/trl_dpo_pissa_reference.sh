#!/usr/bin/env bash
# trl 1.16.0, peft 0.21.2: DPO with an adapter that starts as PiSSA or OLoRA.
#
# One would guess: the reference model is the base, so before the first step all rewards are 0 and the loss is
# log 2 = 0.6931; and handing over a wrapped model instead of peft_config makes no difference.
# What happens: these initialisations move a part of each base weight into the adapter. With peft_config the
# reference is the model without its adapter, which is no longer the base: rewards are not 0 at the first step.
# With a model that is already wrapped, DPOTrainer adds a second adapter, "ref", from the same configuration; that
# takes another part out of the shared base weights, so building the trainer alone changes what the policy answers.
# Rewards are 0 then, the loss is 0.6931, and nothing shows it.
# Why it matters: the KL term pulls towards a model that nobody chose, or training starts from a damaged one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 peft==0.21.2 datasets==5.2.0 trl==1.16.0
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import warnings

import datasets
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

warnings.simplefilter("ignore")
datasets.disable_progress_bars()
tokens = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
letters = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(
    vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    pad_token_id=0, bos_token_id=1, eos_token_id=1,
)
rows = datasets.Dataset.from_list([{"prompt": "Say ", "chosen": "yes", "rejected": "no"}] * 4)
settings = {"max_steps": 1, "learning_rate": 1e-9, "per_device_train_batch_size": 4, "logging_steps": 1}
settings |= {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}
probe = torch.arange(2, 40)[None]


def answers(model):
    with torch.no_grad():
        return model.eval()(probe).logits


def first_step(start, wrapped):
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    before = answers(model)
    lora = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=start, task_type="CAUSAL_LM")
    model, lora = (get_peft_model(model, lora), None) if wrapped else (model, lora)
    assert torch.allclose(answers(model), before, atol=1e-5)
    trainer = DPOTrainer(
        model, args=DPOConfig("out", **settings), train_dataset=rows, processing_class=tokenizer, peft_config=lora
    )
    moved = (answers(trainer.model) - before).abs().max().item()
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "rewards/chosen" in entry)
    print(f"{start}, {'wrapped' if wrapped else 'peft_config'}: logits moved by {moved:.2g} before training; "
          f"loss {log['loss']:.4f}, reward of the chosen {log['rewards/chosen']:.4f}")
    return moved, log["loss"], log["rewards/chosen"]


for start in (True, "pissa", "olora"):
    moved, loss, reward = first_step(start, wrapped=False)
    assert moved < 1e-5 and (reward != 0) == (start is not True) == (abs(loss - 0.6931) > 1e-3)
    moved, loss, reward = first_step(start, wrapped=True)
    assert (moved > 0.1) == (start is not True) and reward == 0 and abs(loss - 0.6931) < 1e-4
PY
