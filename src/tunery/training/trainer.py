"""TRL's SFTTrainer with our own watch on every step: what is reported, when it is measured, saved and stopped.

Imports torch, transformers, peft and TRL at the top: import it inside functions.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTTrainer

from tunery.errors import Interrupted, NonFiniteLoss
from tunery.models.adapter_files import WEIGHTS, save_adapter, write_folder
from tunery.records import Report, StepMetrics
from tunery.training.checkpoints import checkpoint_folder, checkpoint_steps, prune_checkpoints
from tunery.training.clock import StepClock
from tunery.training.forwards import Forwards
from tunery.training.memory import peak_memory_bytes
from tunery.training.progress import TrainingProgress
from tunery.training.rng import kept_random_state
from tunery.training.stop import StopSignal


@dataclass
class TrainerObserver:
    """What accompanies a training loop.

    Args:
        out: The run's folder.
        checkpoints: Evenly spaced checkpoints in all.
        patience: Checkpoints without improvement before training stops, or None.
        measure_nll, measure_score: Measure the model as it is; None where there is nothing to measure.
    """

    out: Path
    device: str
    report: Report
    progress: TrainingProgress
    clock: StepClock
    stop: StopSignal
    checkpoints: int
    patience: int | None
    measure_nll: Callable[[], float] | None
    measure_score: Callable[[], float] | None
    tokens_seen: int = 0
    seconds_seen: float = 0.0
    due: frozenset[int] = field(default_factory=frozenset)

    def publish(self, step: int, values: dict[str, float]) -> None:
        """Report a step's metrics and keep them."""
        metrics = StepMetrics(step, values)
        self.progress.history.append(metrics)
        with self.clock.paused():
            self.report(metrics)


class Pace(TrainerCallback):  # type: ignore[misc]
    """Reports each logged step and asks for checkpoints when they are due."""

    def __init__(self, observer: TrainerObserver) -> None:
        self.observer = observer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lay out the checkpoints and start the clock."""
        observer = self.observer
        observer.progress.total_steps = state.max_steps
        observer.due = checkpoint_steps(state.max_steps, observer.checkpoints)
        observer.clock.start()
        observer.seconds_seen = observer.clock.seconds

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop before a step is begun, where none of this process was done yet."""
        if self.observer.stop.requested and state.global_step == self.observer.progress.step:
            raise Interrupted(self.observer.stop.requested, state.global_step, resumable=state.global_step > 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint when one is due, or when the run must stop."""
        if self.observer.stop.requested:
            control.should_training_stop = True
        control.should_save = bool(self.observer.stop.requested) or state.global_step in self.observer.due

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Report the training metrics of an optimizer step; logs without a loss are transformers' closing summary."""
        if not logs or "loss" not in logs:
            return
        observer = self.observer
        tokens, seconds = int(logs["num_tokens"]), observer.clock.seconds
        speed = (tokens - observer.tokens_seen) / max(seconds - observer.seconds_seen, 1e-9)
        observer.tokens_seen, observer.seconds_seen = tokens, seconds
        values = {
            "train/loss": float(logs["loss"]),
            "train/grad_norm": float(logs["grad_norm"]),
            "train/learning_rate": float(logs["learning_rate"]),
            "train/tokens_per_second": speed,
            "train/peak_memory_bytes": float(peak_memory_bytes(observer.device)),
        }
        observer.publish(state.global_step, values)


class WatchedTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that stops on non-finite numbers and writes whole checkpoints, measured where they are due."""

    def __init__(self, observer: TrainerObserver, forwards: Forwards, **kwargs: Any) -> None:
        trainable = {p: p.data for p in kwargs["model"].parameters() if p.requires_grad}
        super().__init__(callbacks=[Pace(observer)], **kwargs)
        self.remove_callback(PrinterCallback)  # added where there is no progress bar; we report ourselves
        _show_bias(self.model)
        self.observer, self.forwards = observer, forwards
        for parameter, before in trainable.items():
            # TRL casts the adapter of a quantised base to bf16, where 94 % of lora_A did not move at lr 2e-5.
            # From the values before that cast, which rounded them.
            parameter.data = before.to(device=parameter.device, dtype=torch.float32)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass; refuses a loss that is not finite before the weights move."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not math.isfinite(value := float(loss)):
            raise NonFiniteLoss(self.state.global_step + 1, value)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        # fp16's loss scaler expects infinite gradients and skips such a step by itself.
        if not self.args.fp16 and not math.isfinite(value := float(norm)):
            raise NonFiniteLoss(self.state.global_step + 1, value, "train/grad_norm")
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Measure where a checkpoint is due, then write all that a resumed run needs."""
        observer, step = self.observer, self.state.global_step
        with observer.clock.paused():
            if step in observer.due:
                self._measure(step)
            observer.progress.step = step
        observer.progress.seconds = observer.clock.seconds
        with observer.clock.paused():
            write_folder(checkpoint_folder(observer.out, step), self._write_checkpoint)
            prune_checkpoints(observer.out, {step, observer.progress.best_step or step})
        if observer.stop.requested or observer.progress.stopped_early:
            self.control.should_training_stop = True

    def _measure(self, step: int) -> None:
        observer = self.observer
        with kept_random_state(), self.forwards.restored():
            self.model.eval()
            nll = observer.measure_nll() if observer.measure_nll else None
            score = observer.measure_score() if observer.measure_score else None
            self.model.train()
        # Nothing is better or worse than NaN: as the first checkpoint's value it would stay the best one.
        if nll is not None and not math.isfinite(nll):
            raise NonFiniteLoss(step, nll, "validation/nll")
        if score is not None and math.isnan(score):
            raise NonFiniteLoss(step, score, "validation/score")
        measured = {"validation/nll": nll, "validation/score": score}
        values = {name: value for name, value in measured.items() if value is not None}
        if values:
            observer.publish(step, values)
        observer.progress.note_checkpoint(step, nll, score)
        if observer.patience is not None and observer.progress.without_improvement >= observer.patience:
            observer.progress.stopped_early = True

    def _write_checkpoint(self, folder: Path) -> None:
        """transformers' own checkpoint, made in a folder of its own, without TRL's model card."""
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
        self.observer.progress.write(folder)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: walking all parameters took 3.4 ms of a small model's 27 ms step."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter (or the whole model) as safetensors, without asking the Hub about the base."""
        assert output_dir is not None
        save_adapter(self.model, Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))


def _show_bias(model: Any) -> None:
    """TRL's fused head reads `lm_head.bias`, which PEFT's wrapper around an output head with new rows does not show."""
    head = model.get_output_embeddings()
    if head is not None and not hasattr(head, "bias"):
        head.bias = None  # `attach_adapter` refuses new rows on a head that has one


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into a model that has the same adapter (or none, after full fine-tuning)."""
    if hasattr(model, "peft_config"):
        result = set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
        assert not result.unexpected_keys, result.unexpected_keys
        return
    # Names on disk are not always those in memory (fused experts are stored apart), so transformers reads them.
    stored = type(model).from_pretrained(folder, dtype="auto", use_safetensors=True)
    model.load_state_dict(stored.state_dict())
