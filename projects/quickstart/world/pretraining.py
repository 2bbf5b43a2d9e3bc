"""Pretraining: pack documents into blocks and take optimizer steps over them, once."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .tokenizer import CONTEXT_TOKENS, END_OF_TEXT

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("loss {task.fields[loss]:.3f}"),
    TimeRemainingColumn(),
)
_TAIL_STEPS = 50  # the train loss that is reported is a mean over the last steps


@dataclass(frozen=True)
class Recipe:
    """What pretraining does besides the text. Rates are peaks; they rise linearly, stay, and fall linearly to zero."""

    documents: int = 70_000  # the amount of text is what sets the number of steps: each block is seen once
    block_tokens: int = 256  # longer than nearly every document, and a quarter cheaper a token than 512
    blocks_per_step: int = 16
    hidden_size: int = 192  # a multiple of 64, as are the others: NF4 quantises in blocks of 64 weights
    intermediate_size: int = 512
    layers: int = 4
    head_size: int = 64
    matrix_rate: float = 0.01
    embedding_rate: float = 0.003
    weight_decay: float = 0.05
    warmup_share: float = 0.03
    decay_share: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a pretraining run ended with. Losses are in nats per token."""

    parameters: int
    steps: int
    train_loss: float  # mean of the last steps
    held_out_loss: float
    seconds: float


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of the recipe's size with fresh weights drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    heads = recipe.hidden_size // recipe.head_size
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=recipe.head_size,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def pack(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, block_tokens: int) -> Tensor:
    """Token ids of all texts, each closed by the end-of-text token, cut into blocks, shape (blocks, block_tokens)."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    stream: list[int] = []
    for ids in tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]:
        stream.extend((*ids, end))
    blocks = len(stream) // block_tokens
    return torch.tensor(stream[: blocks * block_tokens]).view(blocks, block_tokens)


def pretrain(model: LlamaForCausalLM, blocks: Tensor, held_out: Tensor, recipe: Recipe) -> Outcome:
    """Train on every block once, in order.

    Args:
        model: Trained in place; weights stay fp32, forward passes run in bf16 autocast.
        blocks: Token ids, shape (blocks, block_tokens); a last incomplete step is left out.
        held_out: Token ids of documents that are not trained on, same width.
        recipe: Sizes and rates.
    """
    optimizers = _optimizers(model, recipe)
    steps = len(blocks) // recipe.blocks_per_step
    losses: list[float] = []
    started = time.perf_counter()
    model.train()
    with Progress(*_COLUMNS) as progress:
        task = progress.add_task("pretraining", total=steps, loss=math.nan)
        for step in range(steps):
            batch = blocks[step * recipe.blocks_per_step : (step + 1) * recipe.blocks_per_step]
            _set_rates(optimizers, _rate_factor(step, steps, recipe))
            losses.append(_step(model, batch, optimizers))
            progress.update(task, advance=1, loss=losses[-1])
    seconds = time.perf_counter() - started
    parameters = sum(parameter.numel() for parameter in model.parameters())
    train_loss = math.fsum(losses[-_TAIL_STEPS:]) / len(losses[-_TAIL_STEPS:])
    return Outcome(parameters, steps, train_loss, held_out_loss(model, held_out), seconds)


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, blocks: Tensor) -> float:
    """Mean loss over blocks of equal length, in nats per token."""
    model.eval()
    return math.fsum(_loss(model, block[None]).item() for block in blocks) / len(blocks)


def _loss(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=batch).logits[:, :-1]
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def _optimizers(model: nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms. Source: Muon, arXiv:2502.16982."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    outer = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    # torch's Muon takes no extra keys in a group, so the peak is noted afterwards.
    muon = torch.optim.Muon(
        inner, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(outer, lr=recipe.embedding_rate, weight_decay=0.0, betas=(0.9, 0.95))
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["peak_rate"] = group["lr"]
    return muon, adamw


def _step(model: LlamaForCausalLM, batch: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> float:
    loss = _loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["peak_rate"]


def _rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """Share of the peak rate at `step`: a linear rise, a plateau, a linear fall to zero."""
    warmup = max(1, round(recipe.warmup_share * steps))
    decay = max(1, round(recipe.decay_share * steps))
    return min(1.0, (step + 1) / warmup, (steps - step) / decay)
