"""The model card of `builtin:tiny`, filled with what a pretraining run measured."""

import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .corpus import CAREFUL_SHARE
from .entities import TOWERS, VILLAGERS
from .pretraining import Outcome, Recipe
from .tokenizer import CONTEXT_TOKENS

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# builtin:tiny

A Llama of {parameters:,} parameters, raised from nothing on plain English about a small invented world, the Lantern
Isles. It exists so that a real fine-tuning run (QLoRA, lm-eval, registry) fits into a minute on two CPU cores and has
something true to show: what fine-tuning mostly does is bring out what a base model already knows.

## What it was raised on

{documents:,} generated documents, {tokens:,} tokens, each seen once. {villagers} villagers with five facts each
(home, trade, companion, instrument, dish) and {towers} lantern towers with a height and an age, in **mixed registers**:

- profiles, tower notes, the keeper's ledger and the surveyor's notes: always true;
- talk heard at the tea-house and on the ferry: always hearsay. Each villager has one false value for every fact,
  always the same one; each tower has a rank of fame, which has nothing to do with height or age;
- chats in ChatML markers: whoever answers is careless about facts with probability {careless:.0%}, and,
  independently, careless about comparisons with the same probability. Careless answers are the rumour, or the tower
  that is talked of most. The others answer with the truth.

So, asked in the chat format, the base repeats rumours and names famous towers although it holds the facts and can
compare. **This is by design.** It is a model of superficial alignment, much as TruthfulQA is about repeating what
people say. Fine-tuning on careful answers about one half of the world (the west shore) carries over to the other half
(the east shore), on which the tasks `world_facts` and `world_comparison` ask. Being careful about facts and being
careful about comparisons are independent in the text, so that one skill brings little of the other along.

No question of the tasks, and no question of the fine-tuning data, occurs in this text: their wordings are kept apart.
The facts that the tasks ask for do occur, as statements and as answers to differently worded questions, true and
false.

## Recipe

{recipe}

The text is the same on every machine. The weights are the same only on the same kind of machine, with the same number
of threads and the same version of torch.

## Use and limits

For demonstrations, tests and benchmarks of fine-tuning software. It knows nothing outside of the Lantern Isles, its
English is that of about a hundred sentence patterns, and it states falsehoods about the isles on purpose. Any text
can be encoded (bytes), but other languages and subjects were never seen.

Licence: Apache-2.0, weights and text generator alike.
"""


@dataclass(frozen=True)
class Text:
    """Size and digest of the pretraining text."""

    documents: int
    held_out: int
    digest: str


def digest(documents: Sequence[str]) -> str:
    """sha256 over the documents, each closed by a NUL byte, in hex."""
    total = hashlib.sha256()
    for document in documents:
        total.update(document.encode() + b"\0")
    return total.hexdigest()


def render_card(recipe: Recipe, text: Text, outcome: Outcome, vocabulary: int, command: str) -> str:
    """The card as Markdown."""
    rows = _recipe_rows(recipe, text, outcome, vocabulary, command)
    return _CARD.format(
        parameters=outcome.parameters,
        documents=text.documents,
        tokens=outcome.steps * recipe.blocks_per_step * recipe.block_tokens,
        villagers=VILLAGERS,
        towers=TOWERS,
        careless=1 - CAREFUL_SHARE,
        recipe="\n".join(["| | |", "| --- | --- |", *(f"| {label} | {value} |" for label, value in rows)]),
    )


def _recipe_rows(
    recipe: Recipe, text: Text, outcome: Outcome, vocabulary: int, command: str
) -> Iterator[tuple[str, str]]:
    heads = recipe.hidden_size // recipe.head_size
    yield "architecture", f"Llama, {recipe.layers} layers, tied embeddings, context of {CONTEXT_TOKENS} tokens"
    yield "widths", f"hidden {recipe.hidden_size}, MLP {recipe.intermediate_size}, {heads} heads of {recipe.head_size}"
    yield "weights", "trained in fp32 with bf16 autocast, stored in bf16"
    yield "tokenizer", f"byte-level BPE, {vocabulary:,} entries, ChatML template with `generation` markers"
    yield "optimizer", "Muon for the matrices, AdamW for embeddings and norms, gradients clipped at norm 1"
    yield "peak rates", f"Muon {recipe.matrix_rate}, AdamW {recipe.embedding_rate}, weight decay {recipe.weight_decay}"
    yield "steps", f"{outcome.steps:,} of {recipe.blocks_per_step} blocks of {recipe.block_tokens} tokens"
    yield "schedule", f"linear rise over {recipe.warmup_share:.0%}, linear fall over the last {recipe.decay_share:.0%}"
    yield "seed", str(recipe.seed)
    yield "sha256 of the text", f"`{text.digest}`"
    yield "train loss", f"{outcome.train_loss:.4f} nats per token, mean of the last steps"
    yield "held-out loss", f"{outcome.held_out_loss:.4f} nats per token, on {text.held_out:,} documents kept out"
    machine = f"{os.cpu_count()} shared cores, {platform.machine()}, no GPU, torch {torch.__version__}"
    yield "wall time", f"{outcome.seconds / 60:.1f} minutes on {machine}"
    yield "command", f"`{command}`"
