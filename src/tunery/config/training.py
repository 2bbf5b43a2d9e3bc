"""The section `training`: one run's optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunery.config.section import Count, NonNegativeNumber, PositiveNumber, Probability, Section, Seed

Scheduler = Literal[
    "cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt", "cosine_with_min_lr"
]
Optimizer = Literal["adamw", "paged_adamw_8bit", "paged_adamw_32bit", "adamw_8bit", "adafactor", "sgd"]


class TrainingConfig(Section):
    """Steps, learning rate, batches, and which checkpoint is kept."""

    method: Literal["sft"] = Field("sft", description="Supervised fine-tuning.")
    loss_on: Literal["completion", "assistant", "all"] = Field(
        "completion", description="Tokens that the loss covers: the last answer, every assistant turn, or every token."
    )
    epochs: PositiveNumber = Field(3.0, description="Passes over the training rows.")
    max_steps: Count | None = Field(None, description="Optimizer steps; overrides epochs when set.")
    learning_rate: PositiveNumber = Field(2.0e-4, description="Peak learning rate.")
    scheduler: Scheduler = Field("cosine", description="Shape of the learning rate after warm-up.")
    warmup_ratio: Probability = Field(0.03, description="Share of the steps over which the learning rate rises from 0.")
    optimizer: Optimizer = Field("adamw", description="Optimizer; the paged and 8-bit ones come from bitsandbytes.")
    weight_decay: NonNegativeNumber = Field(0.0, description="Decoupled weight decay.")
    max_grad_norm: PositiveNumber = Field(1.0, description="Gradients are scaled down to this norm.")
    micro_batch_size: Count = Field(4, description="Sequences in one forward pass.")
    gradient_accumulation_steps: Count = Field(
        4, description="Forward passes in one optimizer step; effective batch = the product."
    )
    packing: bool = Field(
        False, description="Fill sequences up to data.max_length without mixing rows (best-fit decreasing)."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about 30 % slower."
    )
    neftune_noise_alpha: PositiveNumber | None = Field(
        None, description="Noise added to embeddings during training (NEFTune, arXiv:2310.05914)."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Precision of the forward pass; auto: bf16 on a GPU that has it, fp16 on older ones, else fp32.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to run; auto: CUDA, then MPS, then CPU."
    )
    seed: Seed = Field(0, description="Seeds the adapter's initial weights, the order of rows, and dropout.")
    log_every_steps: Count = Field(1, description="Optimizer steps between points of the training curves.")
    checkpoints: Count = Field(
        4, description="Checkpoints per run, evenly spaced; validation loss is measured at each."
    )
    keep_best_by: Literal["validation/nll", "score", "last"] = Field(
        "validation/nll", description="Which checkpoint becomes the adapter; score uses dev items only."
    )
    score_checkpoints: bool = Field(
        False, description="Score checkpoints on dev items even when they are chosen by something else."
    )
    early_stopping_patience: Count | None = Field(
        None, description="Stop after this many checkpoints without improvement."
    )

    @property
    def scores_checkpoints(self) -> bool:
        """Whether checkpoints are scored on dev items."""
        return self.score_checkpoints or self.keep_best_by == "score"
