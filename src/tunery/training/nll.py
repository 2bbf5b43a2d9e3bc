"""Nats per target token: the validation loss, whatever the batch size, and what a base makes of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tunery.records.rows import Example
from tunery.records.runs import BaseFit

if TYPE_CHECKING:
    import torch


def token_weighted_nll(batch_nll: Sequence[float], target_tokens: Sequence[int]) -> float:
    """Mean negative log-likelihood per target token over batches of unequal size.

    Averaging per-batch means would weigh a token by how empty its batch was; the loss would then move with the batch
    size.

    Args:
        batch_nll: Sum of -log p over the target tokens of each batch, in nats, shape (batches,).
        target_tokens: Number of target tokens of each batch, same order.

    Returns:
        Nats per target token.

    Raises:
        ValueError: If no batch has a target token.
    """
    total = sum(target_tokens)
    if total == 0:
        raise ValueError("no target tokens: every completion was cut away")
    return math.fsum(batch_nll) / total


def validation_nll(model: Any, examples: Sequence[Example], *, batch_size: int, device: str) -> float:
    """Token-weighted loss of a model on examples, in eval mode; the mode it was in is restored.

    Rows without a target token count for nothing. The batch size changes memory and speed, not the result.

    Returns:
        Nats per target token. Log-softmax is taken in float32.

    Raises:
        ValueError: If no row has a target token.
    """
    import torch

    sums: list[float] = []
    counts: list[int] = []
    for logits, targets in _predictions(model, examples, batch_size, device):
        nll = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        sums.append(float(nll.double()))
        counts.append(len(targets))
    return token_weighted_nll(sums, counts)


def base_fit(model: Any, examples: Sequence[Example], *, batch_size: int, device: str) -> BaseFit:
    """How well a model predicts the learned tokens of examples, beside how well it predicts its own choices there.

    The entropy of a prediction is the mean of -log p over tokens drawn from it: text that the model wrote itself would
    take this, without writing any.

    Raises:
        ValueError: If no row has a target token.
    """
    sums: list[float] = []
    entropies: list[float] = []
    counts: list[int] = []
    vocabulary = 0
    for logits, targets in _predictions(model, examples, batch_size, device):
        logs = logits.log_softmax(dim=-1)
        sums.append(-float(logs.gather(1, targets[:, None]).double().sum()))
        entropies.append(float(logs.exp().mul_(logs).sum(dim=-1).double().sum().neg()))
        counts.append(len(targets))
        vocabulary = logits.shape[-1]
    nll, entropy = token_weighted_nll(sums, counts), token_weighted_nll(entropies, counts)
    return BaseFit(nll, entropy, vocabulary, sum(counts))


def _predictions(
    model: Any, examples: Sequence[Example], batch_size: int, device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits in float32 and ids of each batch's target tokens, shape (targets, vocabulary) and (targets,)."""
    import torch

    was_training = model.training
    model.eval()
    try:
        for input_ids, attention_mask, labels in _batches(examples, batch_size, device):
            with torch.no_grad():
                logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
            targets = labels[:, 1:]
            wanted = targets != -100
            yield logits[:, :-1][wanted].float(), targets[wanted]  # only the targets' rows are expanded to float32
    finally:
        model.train(was_training)


def _batches(
    examples: Sequence[Example], batch_size: int, device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches as `padded` makes them, rows of like length together."""
    ordered = sorted((example for example in examples if any(example.trained[1:])), key=lambda row: len(row.input_ids))
    for start in range(0, len(ordered), batch_size):
        yield padded(ordered[start : start + batch_size], device)


def padded(rows: Sequence[Example], device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded (input_ids, attention_mask, labels) of rows in their order, each of shape (rows, tokens)."""
    import torch

    shape = (len(rows), max(len(row.input_ids) for row in rows))
    input_ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100, dtype=torch.long)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        input_ids[index, :length] = torch.tensor(row.input_ids)
        mask[index, :length] = 1
        labels[index, :length] = torch.tensor(target_labels(row))
    return input_ids.to(device), mask.to(device), labels.to(device)


def target_labels(example: Example) -> list[int]:
    """Token ids where a token is learned, -100 elsewhere and on the first token, which nothing precedes."""
    labels = [token if kept else -100 for token, kept in zip(example.input_ids, example.trained, strict=True)]
    return [-100, *labels[1:]]
