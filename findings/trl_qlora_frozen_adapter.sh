#!/usr/bin/env bash
# trl 1.16.0, peft 0.21.2, bitsandbytes 0.50.2: SFTTrainer on a base in 4 bit, at a small learning rate.
#
# One would guess: adapter weights are fp32, as PEFT makes them, and every step moves all of them.
# What happens: if the base is quantised, SFTTrainer casts the adapter to bf16, whose steps are 1/256 of a weight. At
# a learning rate of 1e-5 an update of Adam is smaller than half a step for most entries of lora_A: after 20 steps 98 %
# of them are exactly what they were, at 1e-4 still 72 %. The same adapter cast back to fp32 moves in every entry.
# Why it matters: a search over learning rates finds small ones useless, and a run on a quantised base is compared
# with one on a full base that trained twice as many matrices. The loss falls all the same, through lora_B.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 bitsandbytes==0.50.2 peft==0.21.2 datasets==5.2.0 trl==1.16.0
cd "$folder"

HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import datasets
import torch
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

datasets.disable_progress_bars()
tokens = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
letters = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")
torch.manual_seed(0)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )
).save_pretrained("base")
rows = datasets.Dataset.from_list([{"prompt": "Who? ", "completion": "me"}] * 2)
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


def moved(rate, dtype):
    """The share of entries of lora_A and of lora_B that 20 steps changed; dtype None leaves what the trainer chose."""
    torch.manual_seed(0)
    settings = SFTConfig(
        "out", max_steps=20, learning_rate=rate, per_device_train_batch_size=2, gradient_checkpointing=False,
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1000,
    )
    trainer = SFTTrainer(
        LlamaForCausalLM.from_pretrained("base", quantization_config=nf4, device_map={"": "cpu"}),
        args=settings, train_dataset=rows, processing_class=tokenizer,
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    weights = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    for weight in weights.values():
        weight.data = weight.data.to(dtype or weight.dtype)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    trainer.train()
    changed = {name: (weight != before[name]).float().mean() for name, weight in weights.items()}
    a, b = (torch.stack([s for n, s in changed.items() if part in n]).mean().item() for part in ("lora_A", "lora_B"))
    print(f"rate {rate}, {({w.dtype for w in weights.values()})}: lora_A {a:.1%} of the entries moved, lora_B {b:.1%}")
    return {weight.dtype for weight in weights.values()}, a, b


for rate, most in ((1e-5, 0.05), (1e-4, 0.5)):
    dtypes, a, b = moved(rate, None)
    assert dtypes == {torch.bfloat16} and a < most and b > 0.99
    _, a, b = moved(rate, torch.float32)
    assert a > 0.99 and b > 0.99
PY
