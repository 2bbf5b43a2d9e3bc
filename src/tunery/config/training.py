"""The section `training`: one run's optimisation."""

from __future__ import annotations

import math
from typing import Literal

from tunery.config.section import Count, CountOrZero, NonNegativeNumber, PositiveNumber, Probability, Section, Seed, key

Scheduler = Literal[
    "cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt", "cosine_with_min_lr"
]
Optimizer = Literal["adamw", "paged_adamw_8bit", "paged_adamw_32bit", "adamw_8bit", "adafactor", "sgd"]


class InContextConfig(Section):
    """Solved examples before every item, instead of training. Source: GPT-3, arXiv:2005.14165."""

    examples: CountOrZero = key(
        16, "Rows of data.train that are shown, drawn by training.seed: 16 rows of a seed contain its 8."
    )
    balanced: bool = key(False, "Show equally many rows of each answer.")
    separator: str = key("\n\n", "Text after each example; a chat template shows examples as turns, without it.")


class DistillationConfig(Section):
    """What a teacher reads before each row, and its student does not. Source: Askell et al., arXiv:2112.00861."""

    context: str | None = key(
        None, "A text that the teacher reads first: as the system text, or before the prompt if data.template is plain."
    )
    examples: Count | None = key(
        None, "Or so many rows of data.train, drawn by training.seed as those of icl; never the row itself."
    )
    balanced: bool = key(False, "Draw equally many examples of each answer.")
    separator: str = key("\n\n", "Text after the context or each example; a chat template shows turns, without it.")
    resample: Literal["never", "epoch", "step"] = key(
        "never", "When other examples are drawn; validation rows keep the first ones."
    )
    teacher: Literal["initial", "current"] = key(
        "initial", "initial: the base, which is the adapter switched off; current: the model as it has become so far."
    )
    tokens: Literal["answer"] = key("answer", "Where the two are compared: the answers that training.loss_on learns.")
    temperature: PositiveNumber = key(1.0, "Both sides' logits are divided by it.")


class TrainingConfig(Section):
    """Steps, learning rate, batches, and which checkpoint is kept."""

    method: Literal["sft", "icl", "context-distillation"] = key(
        "sft",
        "sft: supervised fine-tuning; icl: in-context learning, which trains nothing (training.icl); "
        "context-distillation: answer without a context as with it (training.distillation).",
    )
    icl: InContextConfig | None = key(None, "The examples of method icl; unset: the defaults.")
    distillation: DistillationConfig | None = key(None, "The context of method context-distillation, and its teacher.")
    loss_on: Literal["auto", "completion", "assistant", "all"] = key(
        "auto",
        "Tokens that the loss covers: the last answer (completion), every assistant turn, or every token. auto: every "
        "assistant turn, as far as the chat template shows where it is; the last answer if data.template is plain.",
    )
    epochs: PositiveNumber = key(3.0, "Passes over the training rows.")
    max_steps: Count | None = key(None, "Optimizer steps; overrides epochs when set.")
    learning_rate: PositiveNumber = key(2.0e-4, "Peak learning rate.")
    scheduler: Scheduler = key("cosine", "Shape of the learning rate after warm-up.")
    warmup_ratio: Probability = key(0.03, "Share of the steps over which the learning rate rises from 0.")
    optimizer: Optimizer = key("adamw", "Optimizer; the paged and 8-bit ones come from bitsandbytes.")
    weight_decay: NonNegativeNumber = key(0.0, "Decoupled weight decay.")
    max_grad_norm: PositiveNumber = key(1.0, "Gradients are scaled down to this norm.")
    micro_batch_size: Count = key(4, "Sequences in one forward pass.")
    gradient_accumulation_steps: Count = key(4, "Forward passes in one optimizer step; effective batch = the product.")
    packing: bool = key(False, "Fill sequences up to data.max_length without mixing rows (best-fit decreasing).")
    gradient_checkpointing: bool = key(
        False, "Recompute activations in the backward pass: less memory, about 30 % slower."
    )
    neftune_noise_alpha: PositiveNumber | None = key(
        None, "Noise added to embeddings during training (NEFTune, arXiv:2310.05914)."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto", "Precision of the forward pass; auto: bf16 on a GPU that has it, fp16 on older ones, else fp32."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = key("auto", "Where to run; auto: CUDA, then MPS, then CPU.")
    seed: Seed = key(0, "Seeds the adapter's initial weights, the order of rows, and dropout.")
    log_every_steps: Count = key(1, "Optimizer steps between points of the training curves.")
    tensorboard: bool = key(
        False,
        "Write the curves as TensorBoard's event files too: the run's artifact tensorboard/ (tunery[tensorboard]).",
    )
    checkpoints: Count | Literal["epoch"] = key(
        4, "Checkpoints per run, evenly spaced; epoch: one at the end of each epoch. Each measures validation loss."
    )
    keep_best_by: Literal["validation/nll", "validation/kl", "score", "last"] = key(
        "validation/nll",
        "Which checkpoint becomes the adapter: by the loss on validation rows, by the divergence from a teacher there "
        "(context-distillation), by the score on dev items, or the last one.",
    )
    score_checkpoints: bool = key(False, "Score checkpoints on dev items even when they are chosen by something else.")
    early_stopping_patience: Count | None = key(None, "Stop after this many checkpoints without improvement.")

    @property
    def checkpoint_count(self) -> int:
        """How many checkpoints a whole run writes, if it has as many steps."""
        return math.ceil(self.epochs) if self.checkpoints == "epoch" else self.checkpoints

    @property
    def trains(self) -> bool:
        """Whether the method changes weights: only then are there steps, checkpoints and an adapter."""
        return self.method != "icl"

    @property
    def in_context(self) -> InContextConfig:
        """The examples of method icl."""
        return self.icl or InContextConfig()

    @property
    def distils(self) -> DistillationConfig | None:
        """The context and the teacher of method context-distillation; None for any other method."""
        return self.distillation if self.method == "context-distillation" else None

    @property
    def chooses_by_validation(self) -> bool:
        """Whether the kept checkpoint is chosen on validation rows."""
        return self.trains and self.keep_best_by.startswith("validation/")

    @property
    def chooses_by_score(self) -> bool:
        """Whether the kept checkpoint is chosen on dev items."""
        return self.trains and self.keep_best_by == "score"

    @property
    def scores_checkpoints(self) -> bool:
        """Whether checkpoints are scored on dev items."""
        return self.trains and (self.score_checkpoints or self.keep_best_by == "score")
