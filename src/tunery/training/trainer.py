"""TRL's SFTTrainer with our own rules for each step: what is reported, when it is measured, saved and stopped.

Imports torch, transformers, peft and TRL at the top: import it inside functions.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTTrainer

from tunery.errors import Interrupted, NonFiniteLoss
from tunery.models.adapter_files import WEIGHTS, save_adapter, write_folder
from tunery.training.checkpoints import checkpoint_folder, checkpoint_steps, prune_checkpoints
from tunery.training.context import Forwards, TrainingContext
from tunery.training.memory import peak_memory_bytes
from tunery.training.pack.seat import current_seat
from tunery.training.random_state import kept_random_state


class StepReporter(TrainerCallback):  # type: ignore[misc]
    """Reports each logged step and asks for checkpoints when they are due."""

    def __init__(self, context: TrainingContext) -> None:
        self.context = context

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lay out the checkpoints and start the clock."""
        context = self.context
        context.progress.total_steps = state.max_steps
        epoch_steps = math.ceil(len(kwargs["train_dataloader"]) / args.gradient_accumulation_steps)
        context.due = checkpoint_steps(state.max_steps, context.config.checkpoints, epoch_steps)
        context.clock.start()
        context.seconds_reported = context.clock.seconds

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop before a step, if this process has not done one since the last checkpoint."""
        if self.context.stop.requested and state.global_step == self.context.progress.step:
            raise Interrupted(self.context.stop.requested, state.global_step, resumable=state.global_step > 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint when one is due, or when the run must stop."""
        if self.context.stop.requested:
            control.should_training_stop = True
        control.should_save = bool(self.context.stop.requested) or state.global_step in self.context.due

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Report the training metrics of an optimizer step; logs without a loss are transformers' closing summary."""
        if not logs or "loss" not in logs:
            return
        context = self.context
        tokens, seconds = int(logs["num_tokens"]), context.clock.seconds
        speed = (tokens - context.tokens_reported) / max(seconds - context.seconds_reported, 1e-9)
        context.tokens_reported, context.seconds_reported = tokens, seconds
        values = {
            "train/loss": float(logs["loss"]),
            **({"train/kl": float(logs["kl"])} if "kl" in logs else {}),
            "train/grad_norm": float(logs["grad_norm"]),
            "train/learning_rate": float(logs["learning_rate"]),
            "train/tokens_per_second": speed,
            "train/peak_memory_bytes": float(peak_memory_bytes(context.device)),
            **context.router.take(),
        }
        context.publish(state.global_step, values)


class CheckedTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that stops on non-finite numbers and writes whole checkpoints, measured where they are due."""

    def __init__(self, context: TrainingContext, forwards: Forwards, **kwargs: Any) -> None:
        trainable = {p: p.data for p in context.model.parameters() if p.requires_grad}
        callbacks = [StepReporter(context)]
        super().__init__(model=context.model, processing_class=context.tokenizer, callbacks=callbacks, **kwargs)
        self.remove_callback(PrinterCallback)  # added where there is no progress bar; we report ourselves
        head = self.model.get_output_embeddings()
        if head is not None and not hasattr(head, "bias"):
            # TRL's fused head reads `lm_head.bias`, which PEFT's wrapper around a head with new rows does not show;
            # `attach_adapter` refuses new rows on a head that has one.
            head.bias = None
        self.context, self.forwards = context, forwards
        self._carried = dict(context.progress.unlogged)
        self._seat = current_seat()
        for parameter, before in trainable.items():
            # TRL casts the adapter of a quantised base to bf16, where 94 % of lora_A did not move at lr 2e-5.
            # From the values before that cast, which rounded them.
            parameter.data = before.to(device=parameter.device, dtype=torch.float32)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; refuses a loss that is not finite before the weights move."""
        if self._carried:  # not earlier: transformers sets its own sums to 0 when it begins
            self.take_up(self._carried)
            self._carried = {}
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if self._seat is not None:
            self._seat.backward()
        if not math.isfinite(value := float(loss)):
            raise NonFiniteLoss(self.state.global_step + 1, value)
        return loss

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """As TRL computes it; in a pack, from outputs that may be computed together with those of other trials."""
        seat, dtype = self._seat, torch.bfloat16 if self.args.bf16 else None
        if seat is None:
            return super().compute_loss(model, *args, **kwargs)
        return super().compute_loss(lambda **inputs: seat.forward(model, inputs, dtype), *args, **kwargs)

    def unlogged(self) -> dict[str, float]:
        """Sums since the last point of the curves, which a run that is resumed here needs for its next one."""
        return {"loss": float(self._tr_loss), "since": self._globalstep_last_logged}

    def take_up(self, sums: Mapping[str, float]) -> None:
        """Go on from what `unlogged` returned; transformers' own checkpoint leaves it out."""
        self._tr_loss += sums["loss"]
        self._globalstep_last_logged = int(sums["since"])

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        # fp16's loss scaler expects infinite gradients and skips such a step by itself.
        if not self.args.fp16 and not math.isfinite(value := float(norm)):
            raise NonFiniteLoss(self.state.global_step + 1, value, "train/grad_norm")
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Measure where a checkpoint is due, then write all that a resumed run needs."""
        context, step = self.context, self.state.global_step
        with context.clock.paused():
            if step in context.due:
                self._measure(step)
            context.progress.step, context.progress.unlogged = step, self.unlogged()
        context.progress.seconds = context.clock.seconds
        with context.clock.paused():
            write_folder(checkpoint_folder(context.out, step), self._write_checkpoint)
            prune_checkpoints(context.out, {step, context.progress.best_step or step})
        if context.stop.requested or context.progress.stopped_early:
            self.control.should_training_stop = True

    def _measure(self, step: int) -> None:
        context = self.context
        with kept_random_state(), self.forwards.restored():
            self.model.eval()
            nll, kl = context.validation_nll(), context.validation_kl()
            score = context.score() if context.score else None
            self.model.train()
        measured = {"validation/nll": nll, "validation/kl": kl, "validation/score": score}
        values = {name: value for name, value in measured.items() if value is not None}
        for name, value in values.items():
            # Nothing is better or worse than NaN: as the first checkpoint's value it would stay the best one.
            if math.isnan(value) or (name != "validation/score" and math.isinf(value)):
                raise NonFiniteLoss(step, value, name)
        if values:
            context.publish(step, values)
        context.progress.note_checkpoint(step, nll, score, kl)
        patience = context.config.early_stopping_patience
        if patience is not None and context.progress.without_improvement >= patience:
            context.progress.stopped_early = True

    def _write_checkpoint(self, folder: Path) -> None:
        """transformers' own checkpoint, made in a temporary folder, without TRL's model card."""
        home = self.args.output_dir
        self.args.output_dir = str(folder)
        try:
            Trainer._save_checkpoint(self, self.model, None)
        finally:
            self.args.output_dir = home
        inner = folder / f"checkpoint-{self.state.global_step}"
        for path in list(inner.iterdir()):
            shutil.move(path, folder / path.name)
        inner.rmdir()
        self.context.progress.write(folder)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: walking all parameters took 3.4 ms of a small model's 27 ms step."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter (or the whole model) as safetensors, without asking the Hub about the base."""
        assert output_dir is not None
        save_adapter(self.model, Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into a model that has the same adapter (or none, after full fine-tuning)."""
    if hasattr(model, "peft_config"):
        result = set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
        assert not result.unexpected_keys, result.unexpected_keys
        return
    # Names on disk are not always those in memory (fused experts are stored apart), so transformers reads them.
    stored = type(model).from_pretrained(folder, dtype="auto", use_safetensors=True)
    model.load_state_dict(stored.state_dict())
