"""One trial as people write it: a TRL script. benchmarks/study.py runs it in its own process, then lm-eval's CLI.

python benchmarks/plain_trial.py BASE_FOLDER ROWS.jsonl OUT --rank 16 --alpha 32 --learning-rate 2e-3 --steps 67
"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("base", type=click.Path(exists=True))
@click.argument("rows", type=click.Path(exists=True))
@click.argument("out", type=click.Path())
@click.option("--rank", type=int, required=True)
@click.option("--alpha", type=int, required=True)
@click.option("--learning-rate", type=float, required=True)
@click.option("--steps", type=int, required=True)
@click.option("--batch", type=int, required=True)
def main(base: str, rows: str, out: str, rank: int, alpha: int, learning_rate: float, steps: int, batch: int) -> None:
    """Fine-tune a 4-bit base with LoRA on chat rows and save the adapter."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=quantised)
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = [json.loads(line)["messages"] for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    dataset = Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in turns])
    arguments = SFTConfig(
        output_dir=out,
        max_steps=steps,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        max_length=128,
        disable_tqdm=True,
        bf16=False,
    )
    adapter = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=dataset, peft_config=adapter, processing_class=tokenizer
    )
    trainer.train()
    trainer.model.save_pretrained(out)


if __name__ == "__main__":
    main()
