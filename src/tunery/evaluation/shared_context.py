"""Log-likelihoods with one row a document: its context once, then every option, which sees the context and itself.

Stock HFLM runs the context again for each option of several tokens, and computes logits at every position. Here the
options follow the context side by side; a 4-D attention mask keeps them from seeing each other, their positions
start again after the context, and logits are computed from the context's last token on. What all prompts of a task
begin with is run once (`shared_prefix`). In fp32 the sums are within 1e-4 of stock's (benchmarks/scoring.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers.cache_utils import Cache

from tunery.evaluation.document_rows import DocumentRow, RowGroup
from tunery.evaluation.shared_prefix import keys_and_values

# A kernel other than sdpa may ignore a 4-D mask; layers of other kinds carry state from token to token.
_KERNEL, _LAYERS = "sdpa", frozenset({"full_attention", "sliding_attention"})
_OTHER_POSITIONS = ("alibi", "attention_chunk_size")
_BY_LENGTH = ("dynamic", "longrope")  # rotary positions that follow from the longest row
_CONTEXT, _PADDING = 0, -1
# Logits of a batch, 512 MiB in fp32: hellaswag's 32 requests would be 1.3 GB with Gemma's 262,144 words.
_MOST_LOGITS = 2**27
_READ_AT_ONCE = 2**24  # logits whose probabilities are computed together

Answer = tuple[float, bool]


def longest_request(model: Any, max_length: int) -> int:
    """Tokens of the longest request that may share its context's row; 0 where no request may.

    Within a sliding window every token sees all that come before it, so up to there the mask is right. Some models turn
    positions by how long the longest row is (dynamic NTK, LongRoPE): up to the length that they were pretrained with,
    they turn all alike, and beyond it a kept beginning would be turned otherwise than what follows.

    Args:
        model: A causal language model, with or without a PEFT adapter.
        max_length: Tokens that the model can take.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config.get_text_config()
    takes = inspect.signature(inner.forward).parameters
    if (
        config._attn_implementation != _KERNEL
        or not {"position_ids", "logits_to_keep"} <= set(takes)
        or not set(getattr(config, "layer_types", None) or ()) <= _LAYERS
        or any(getattr(config, name, None) for name in _OTHER_POSITIONS)
    ):
        return 0
    return min(max_length, getattr(config, "sliding_window", None) or max_length, *_unscaled(config))


def _unscaled(config: Any) -> Iterator[int]:
    """Tokens up to which positions do not depend on the length of a row, where they may; of each kind of layer."""
    told = getattr(config, "rope_parameters", None) or {}
    for rope in (told, *told.values()):
        if isinstance(rope, Mapping) and rope.get("rope_type") in _BY_LENGTH:
            yield int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)


def answer(
    model: Any,
    group: RowGroup,
    batch_size: int,
    device: Any,
    padding: int,
    done: Callable[[int], None] = lambda _: None,
) -> dict[int, Answer]:
    """Log-likelihood of each option in nats, and whether greedy decoding would write it, by the place of its request.

    Args:
        model: A causal language model in evaluation mode.
        group: Rows, widest first, with what they all begin with.
        batch_size: Requests in one forward pass if each had its own row; a batch holds as many tokens.
        device: Where the model takes its input.
        padding: Id of any token; it is not seen.
        done: Is told after each batch how many requests it answered.
    """
    rows, length = group.rows, len(group.prefix)
    prefix = keys_and_values(model, group.prefix, device) if length else None
    vocabulary = model.get_output_embeddings().weight.shape[0]
    answers: dict[int, Answer] = {}
    start = 0
    while start < len(rows):
        widest = rows[start]
        count = batch_size * (length + widest.single_width) // (length + widest.width)
        count = max(1, min(count, _MOST_LOGITS // (vocabulary * widest.predicted)))
        batch = _answer_batch(model, rows[start : start + count], device, padding, prefix, length)
        done(len(batch))
        answers |= batch
        start += count
    return answers


def _answer_batch(
    model: Any, rows: Sequence[DocumentRow], device: Any, padding: int, prefix: Cache | None, length: int
) -> dict[int, Answer]:
    # Contexts end in the same column, so that logits are needed from there on only.
    before = max(len(row.context) for row in rows)
    width = before + max(row.width - len(row.context) for row in rows)
    ids = torch.full((len(rows), width), padding)
    positions, parts = torch.zeros_like(ids), torch.full_like(ids, _PADDING)
    for number, row in enumerate(rows):
        _lay_out(row, before, ids[number], positions[number], parts[number])
    logits = model(
        input_ids=ids.to(device),
        attention_mask=_sees(parts.to(device), length),
        position_ids=length + positions.to(device),
        logits_to_keep=width - before + 1,
        past_key_values=prefix,
        use_cache=prefix is not None,
    ).logits
    return _read(logits, rows)


def _lay_out(row: DocumentRow, before: int, ids: torch.Tensor, positions: torch.Tensor, parts: torch.Tensor) -> None:
    """Write a row into its line of each tensor, shape (tokens,)."""
    length = len(row.context)
    spans = [(before - length, 0, row.context, _CONTEXT)]
    start = before
    for part, option in enumerate(row.options.values(), start=1):
        spans.append((start, length, option[:-1], part))
        start += len(option) - 1
    for column, position, tokens, part in spans:
        span = slice(column, column + len(tokens))
        ids[span] = torch.tensor(tokens, dtype=torch.long)
        positions[span] = torch.arange(position, position + len(tokens))
        parts[span] = part


def _sees(parts: torch.Tensor, prefix: int = 0) -> torch.Tensor:
    """Which token sees which, shape (rows, 1, tokens, prefix + tokens): prefix, context, and its own part up to itself.

    Padding sees at least itself: a token that sees nothing has no softmax, and its NaN would spread.
    """
    asking, asked = parts[:, :, None], parts[:, None, :]
    causal = torch.ones(parts.shape[1], parts.shape[1], dtype=torch.bool, device=parts.device).tril()
    own = causal & ((asked == _CONTEXT) | (asked == asking))
    return functional.pad(own, (prefix, 0), value=True)[:, None]


def _read(logits: torch.Tensor, rows: Sequence[DocumentRow]) -> dict[int, Answer]:
    """Answers from logits of shape (rows, columns from the context's last token on, vocabulary)."""
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    lengths: dict[int, int] = {}
    for number, row in enumerate(rows):
        start = 1
        for place, option in row.options.items():
            columns = (0, *range(start, start + len(option) - 1))
            places += [(number, column) for column in columns]
            targets += option
            lengths[place] = len(option)
            start += len(option) - 1
    logs, are_greedy = _log_likelihoods(logits, places, targets)
    parts = list(lengths.values())
    answers = zip(lengths, torch.split(logs, parts), torch.split(are_greedy, parts), strict=True)
    return {place: (float(some.sum()), bool(greedy.all())) for place, some, greedy in answers}


def _log_likelihoods(
    logits: torch.Tensor, places: list[tuple[int, int]], targets: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the token after each place, in nats, and whether it is the likeliest; both of shape (places,), on the CPU."""
    wanted = torch.tensor(targets, device=logits.device)
    lines, columns = torch.tensor(places, device=logits.device).T
    logs, are_greedy = [], []
    for some in torch.split(torch.arange(len(places)), max(1, _READ_AT_ONCE // logits.shape[-1])):
        chosen = torch.log_softmax(logits[lines[some], columns[some]], dim=-1, dtype=torch.float32)
        logs.append(chosen.gather(1, wanted[some, None])[:, 0])
        are_greedy.append(chosen.argmax(dim=-1) == wanted[some])
    return torch.cat(logs).cpu(), torch.cat(are_greedy).cpu()
