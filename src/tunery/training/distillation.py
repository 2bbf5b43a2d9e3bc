"""Context distillation: a model learns to say without a context what it says with it.

Source: Askell et al., arXiv:2112.00861 (section 2.2); Snell et al., arXiv:2209.15189.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunery.config.training import DistillationConfig
from tunery.records.rows import Example
from tunery.training.nll import padded, token_weighted_nll

if TYPE_CHECKING:
    import torch


def kl_divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Sum over positions of KL(teacher || student) = sum of p_teacher (log p_teacher - log p_student), in nats.

    Equal logits give 0 to the last bit, which an entropy taken from a cross-entropy would not.

    Args:
        teacher, student: Logits, shape (positions, vocabulary); log-softmax is taken in float32.
        temperature: Divides both.
    """
    from torch.nn.functional import kl_div

    told, said = ((logits.float() / temperature).log_softmax(dim=-1) for logits in (teacher, student))
    return kl_div(said, told, reduction="sum", log_target=True)


def answer_logits(model: Any, rows: Sequence[Example], device: str) -> torch.Tensor:
    """Logits that predict the learned tokens of rows, row by row, shape (learned tokens, vocabulary).

    Each token is predicted from the one before it. Where a row's answer begins does not matter, so that the same answer
    after texts of other lengths gives logits that belong together.
    """
    input_ids, mask, labels = padded(rows, device)
    wanted = labels[:, 1:] != -100
    columns = wanted.any(dim=0).nonzero()[:, 0]  # of these alone the logits are computed
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    only = {"logits_to_keep": columns} if "logits_to_keep" in inspect.signature(inner.forward).parameters else {}
    logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False, **only).logits
    kept: torch.Tensor = logits if only else logits[:, columns]
    return kept[wanted[:, columns]]


@contextmanager
def teaching(model: Any, distillation: DistillationConfig) -> Iterator[None]:
    """The model as the teacher inside: without gradients and dropout, the initial one with its adapter switched off."""
    import torch

    was_training, off = model.training, distillation.teacher == "initial"
    model.eval()
    if off:
        # PEFT's own disable_adapter() asks every module for its state first.
        model.base_model.disable_adapter_layers()
    try:
        with torch.no_grad():
            yield
    finally:
        if off:
            model.base_model.enable_adapter_layers()
        model.train(was_training)


def answers_kl(
    model: Any, teacher: Sequence[Example], student: Sequence[Example], distillation: DistillationConfig, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the divergence over the learned tokens of rows, and the student's logits there.

    Args:
        teacher, student: The same rows with and without the context, in one order.
    """
    with teaching(model, distillation):
        told = answer_logits(model, teacher, device)
    said = answer_logits(model, student, device)
    return kl_divergence(told, said, distillation.temperature), said


def validation_kl(
    model: Any,
    teacher: Sequence[Example],
    student: Sequence[Example],
    distillation: DistillationConfig,
    *,
    batch_size: int,
    device: str,
) -> float:
    """Nats per learned token between teacher and student, in eval mode; the mode it was in is restored.

    Raises:
        ValueError: If no row has a token to learn.
    """
    import torch

    pairs = [pair for pair in zip(teacher, student, strict=True) if any(pair[1].trained[1:])]
    pairs.sort(key=lambda pair: len(pair[0].input_ids))
    sums, counts, was_training = [], [], model.training
    model.eval()
    try:
        for start in range(0, len(pairs), batch_size):
            told, said = zip(*pairs[start : start + batch_size], strict=True)
            with torch.no_grad():
                divergence, logits = answers_kl(model, told, said, distillation, device)
            sums.append(float(divergence.double()))
            counts.append(len(logits))
    finally:
        model.train(was_training)
    return token_weighted_nll(sums, counts)
