"""Log-likelihoods with one row a document: its context once, then every option, which sees the context and itself.

Stock HFLM runs the context again for each option of several tokens, and computes logits at every position. Here the
options follow the context side by side; a 4-D attention mask keeps them from seeing each other, their positions
start again after the context, and logits are computed from the context's last token on. In fp32 the sums are within
1e-4 of stock's (benchmarks/scoring.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# A kernel other than sdpa may ignore a 4-D mask; layers of other kinds carry state from token to token.
_KERNEL, _LAYERS = "sdpa", frozenset({"full_attention", "sliding_attention"})
_OTHER_POSITIONS = ("alibi", "attention_chunk_size")
_CONTEXT, _PADDING = 0, -1

Answer = tuple[float, bool]


@dataclass(frozen=True)
class DocumentRow:
    """One context with its options."""

    context: Sequence[int]  # token ids that every option follows
    options: Mapping[int, Sequence[int]]  # token ids of each option, by the place of its request

    @property
    def width(self) -> int:
        """Tokens of the row: an option's last one is only predicted."""
        return len(self.context) + sum(len(option) - 1 for option in self.options.values())

    @property
    def single_width(self) -> int:
        """Tokens of the longest request if each had its own row."""
        return len(self.context) + max(len(option) for option in self.options.values()) - 1


def longest_request(model: Any, max_length: int) -> int:
    """Tokens of the longest request that may share its context's row; 0 where no request may.

    Within a sliding window every token sees all that come before it, so up to there the mask is right.

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
    return min(max_length, getattr(config, "sliding_window", None) or max_length)


def rows_of(
    keys: Sequence[object], pairs: Sequence[tuple[Sequence[int], Sequence[int]]], widest: int
) -> list[DocumentRow]:
    """Requests gathered by document and context, widest row first; without those that fit in no row.

    Args:
        keys: The document of each request.
        pairs: Context and option of each request, as token ids.
        widest: Tokens of a row; a document with more is split.
    """
    gathered: dict[object, dict[int, Sequence[int]]] = {}
    for place, (key, (context, option)) in enumerate(zip(keys, pairs, strict=True)):
        if len(context) + len(option) <= widest:
            gathered.setdefault((key, tuple(context)), {})[place] = option
    rows = []
    for options in gathered.values():
        context = pairs[next(iter(options))][0]
        rows += [DocumentRow(context, part) for part in _split(options, widest - len(context))]
    return sorted(rows, key=lambda row: (-row.width, tuple(row.context), tuple(map(tuple, row.options.values()))))


def answer(
    model: Any,
    rows: Sequence[DocumentRow],
    batch_size: int,
    device: Any,
    padding: int,
    done: Callable[[int], None] = lambda _: None,
) -> dict[int, Answer]:
    """Log-likelihood of each option in nats, and whether greedy decoding would write it, by the place of its request.

    Args:
        model: A causal language model in evaluation mode.
        rows: Rows, widest first.
        batch_size: Requests in one forward pass if each had its own row; a batch holds as many tokens.
        device: Where the model takes its input.
        padding: Id of any token; it is not seen.
        done: Is told after each batch how many requests it answered.
    """
    answers: dict[int, Answer] = {}
    start = 0
    while start < len(rows):
        count = max(1, batch_size * rows[start].single_width // rows[start].width)
        batch = _answer_batch(model, rows[start : start + count], device, padding)
        done(len(batch))
        answers |= batch
        start += count
    return answers


def _split(options: Mapping[int, Sequence[int]], room: int) -> Iterator[dict[int, Sequence[int]]]:
    part: dict[int, Sequence[int]] = {}
    used = 0
    for place, option in options.items():
        if part and used + len(option) - 1 > room:
            yield part
            part, used = {}, 0
        part[place] = option
        used += len(option) - 1
    yield part


def _answer_batch(model: Any, rows: Sequence[DocumentRow], device: Any, padding: int) -> dict[int, Answer]:
    # Contexts end in the same column, so that logits are needed from there on only.
    before = max(len(row.context) for row in rows)
    width = before + max(row.width - len(row.context) for row in rows)
    ids = torch.full((len(rows), width), padding)
    positions, parts = torch.zeros_like(ids), torch.full_like(ids, _PADDING)
    for number, row in enumerate(rows):
        _lay_out(row, before, ids[number], positions[number], parts[number])
    logits = model(
        input_ids=ids.to(device),
        attention_mask=_sees(parts.to(device)),
        position_ids=positions.to(device),
        logits_to_keep=width - before + 1,
        use_cache=False,
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


def _sees(parts: torch.Tensor) -> torch.Tensor:
    """Which token sees which, shape (rows, 1, tokens, tokens): the context and its own part, up to itself.

    Padding sees at least itself: a token that sees nothing has no softmax, and its NaN would spread.
    """
    asking, asked = parts[:, :, None], parts[:, None, :]
    causal = torch.ones(parts.shape[1], parts.shape[1], dtype=torch.bool, device=parts.device).tril()
    return (causal & ((asked == _CONTEXT) | (asked == asking)))[:, None]


def _read(logits: torch.Tensor, rows: Sequence[DocumentRow]) -> dict[int, Answer]:
    """Answers from logits of shape (rows, columns from the context's last token on, vocabulary)."""
    lines: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    lengths: dict[int, int] = {}
    for number, row in enumerate(rows):
        start = 1
        for place, option in row.options.items():
            lines += [number] * len(option)
            columns += [0, *range(start, start + len(option) - 1)]
            targets += option
            lengths[place] = len(option)
            start += len(option) - 1
    chosen = torch.log_softmax(logits[lines, columns], dim=-1, dtype=torch.float32)
    wanted = torch.tensor(targets, device=chosen.device)
    sums = torch.split(chosen.gather(1, wanted[:, None])[:, 0], list(lengths.values()))
    greedy = torch.split(chosen.argmax(dim=-1) == wanted, list(lengths.values()))
    return {place: (float(s.sum()), bool(g.all())) for place, s, g in zip(lengths, sums, greedy, strict=True)}
