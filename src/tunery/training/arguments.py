"""The section `training` in the words of transformers and TRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunery.config.training import TrainingConfig
from tunery.models.device import resolve_precision

_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}  # the others have the same names
_MIN_RATE = 0.1  # the floor that cosine_with_min_lr ends at, as a share of the peak


def sft_arguments(config: TrainingConfig, device: str, folder: Path) -> Any:
    """TRL's SFTConfig for a run: our own reporting, checkpoints and validation, so theirs are off.

    Raises:
        ConfigError: If the device cannot do training.precision.
    """
    from trl import SFTConfig

    precision = resolve_precision(config.precision, device)
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        lr_scheduler_kwargs={"min_lr_rate": _MIN_RATE} if config.scheduler == "cosine_with_min_lr" else {},
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of all steps, rounded up
        optim=_OPTIMIZERS.get(config.optimizer, config.optimizer),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        packing=config.packing,
        packing_strategy="bfd",
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        neftune_noise_alpha=config.neftune_noise_alpha,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        seed=config.seed,
        logging_steps=config.log_every_steps,
        logging_nan_inf_filter=False,  # it would hide a NaN behind the mean of earlier losses
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=device == "cuda",
        max_length=None,  # rows are cut and packed already
        router_aux_loss_coef=0.0,  # routers are never adapted, so there is no balance to learn
    )
