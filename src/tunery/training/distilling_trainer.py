"""The trainer of context distillation: another loss, which needs the teacher's side of each row.

Imports torch, transformers, peft and TRL at the top: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tunery.data.teacher_rows import TeacherRows
from tunery.training.context import Forwards, TrainingContext
from tunery.training.distillation import answers_kl
from tunery.training.rows import PLACE
from tunery.training.trainer import CheckedTrainer


class DistillingTrainer(CheckedTrainer):
    """Minimises KL(teacher with context || student without) per learned token of the whole effective batch."""

    def __init__(self, context: TrainingContext, forwards: Forwards, teacher: TeacherRows, **kwargs: Any) -> None:
        super().__init__(context, forwards, **kwargs)
        self.teacher = teacher
        self._signature_columns = ["input_ids", "labels", PLACE]
        self.data_collator: Callable[..., dict[str, Any]] = _with_places(self.data_collator)
        # Since the last point of the curves: nats of the answers themselves, and their tokens.
        self._nats, self._learned = 0.0, 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The micro batch's part of the loss: its sum over the learned tokens of all micro batches of the step."""
        context, places = self.context, inputs[PLACE].tolist()
        student = [context.data.train[place] for place in places]
        draw = self.teacher.draw_at(self.state.global_step, int(self.state.epoch or 0))
        told = self.teacher.training(places, draw)
        divergence, said = answers_kl(model, told, student, self.teacher.distillation, context.device)
        self._note(said.detach(), inputs)
        loss: torch.Tensor = divergence / num_items_in_batch
        return loss

    def _note(self, said: torch.Tensor, inputs: dict[str, Any]) -> None:
        """Keep what is logged beside the loss: how likely the rows' own answers are, and the tokens that were read."""
        targets = inputs["labels"][:, 1:]
        targets = targets[targets != -100]
        self._nats += float(torch.nn.functional.cross_entropy(said.float(), targets, reduction="sum"))
        self._learned += len(targets)
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]

    def unlogged(self) -> dict[str, float]:
        """Also the answers' own sums."""
        return {**super().unlogged(), "nats": self._nats, "learned": self._learned}

    def take_up(self, sums: Mapping[str, float]) -> None:
        """Also the answers' own sums."""
        super().take_up(sums)
        self._nats, self._learned = sums["nats"], int(sums["learned"])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Let `loss` be what it is in every other run, the answers' own, and `kl` what is minimised here."""
        if "loss" in logs:
            logs = {**logs, "kl": logs["loss"], "loss": self._nats / self._learned}
            self._nats, self._learned = 0.0, 0
        super().log(logs, start_time)


def _with_places(collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A collator that keeps which rows a batch holds."""

    def collated(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {**collate(rows), PLACE: torch.tensor([row[PLACE] for row in rows])}

    return collated
