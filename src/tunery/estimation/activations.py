"""What a forward pass keeps for its backward pass, in bytes.

Source: the bookkeeping of Korthikanti et al., arXiv:2205.05198 (section 4), which counts a GPT layer in 16 bit, every
weight trained, as s b h (34 + 5 a s / h). Here it is counted tensor by tensor, since three things differ: a frozen
matrix keeps no input, an adapter keeps its own, and fused attention keeps no scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from tunery.estimation.architecture import Architecture, Layer, Linear

FP32 = 4
# TRL's fused output head works on tiles of this many tokens by this many vocabulary entries.
TILE_TOKENS, TILE_WORDS = 4096, 32768
# Without Triton a tile's gradient is taken in fp32 by separate operations, of which seven tensors live at once,
# and one of truth values (trl.kernels.chunked_logprob._backward_tile).
_TILE_COPIES_BYTES = 7 * FP32 + 1


@dataclass(frozen=True)
class Arithmetic:
    """How the forward pass computes."""

    stream: int  # bytes of a number in the residual stream: the type of the weights that are not quantised
    matrix: int  # bytes of a number that matrix products give
    autocast: bool  # mixed precision: every matrix product casts its inputs
    cuda: bool  # on a GPU: fused dropout, Triton's head, attention kernels that can drop


@dataclass(frozen=True)
class Adaptation:
    """What is trained in the linear modules."""

    names: frozenset[str]  # adapted modules; empty for full fine-tuning
    rank: int
    dropout: bool
    dora: bool
    full: bool  # every weight is trained
    stored: str  # nf4, int8 or none


@dataclass(frozen=True)
class Batch:
    """Rows in one forward pass, each padded to the same length in tokens; masked if attention needs a mask."""

    rows: int
    length: int
    masked: bool

    @property
    def tokens(self) -> int:
        """Positions in one forward pass."""
        return self.rows * self.length


def layer_bytes(arch: Architecture, layer: Layer, how: Arithmetic, what: Adaptation, batch: Batch) -> int:
    """Kept by one decoder layer between its forward and its backward pass."""
    per_token = (
        _norms(arch, layer, how, what)
        + _attention_tensors(arch, how, batch)
        + _mlp_tensors(arch, layer, how)
        + sum(
            _inputs(list(group), layer, how, what) for _, group in groupby(_by_input(layer), key=lambda one: one.reads)
        )
        + _hidden_dropout(arch, how)
    )
    return batch.tokens * per_token + _scores(arch, how, batch) + _weights_kept(layer, how, what)


def layer_work_bytes(arch: Architecture, layer: Layer, how: Arithmetic, what: Adaptation, batch: Batch) -> int:
    """Additional bytes while one layer's gradient is computed: gradients of its widest tensors, and expanded weights.

    The gradient of the stream and of the normalised stream, three of the MLP's width, and the largest weight in the
    type that its product is taken in; an expansion from 4 bit in another type than the gradient's is there twice.
    """
    inner = max(layer.inner, arch.experts_per_token * layer.expert_inner)
    work = batch.tokens * (2 * arch.hidden * how.stream + 3 * inner * how.matrix)
    largest = max((linear.size for linear in layer.linears), default=0)
    if what.stored != "none":
        work += largest * how.matrix + (largest * FP32 // 64 if what.stored == "nf4" else 0)
    adapted = [linear for linear in layer.linears if linear.name in what.names]
    if what.dora and adapted:
        # An identity matrix goes through the adapter, then the whole weight's norm is taken, in fp32.
        work += max(FP32 * (linear.inputs**2 + 3 * linear.size) for linear in adapted)
    return work


def checkpoint_bytes(arch: Architecture, how: Arithmetic, batch: Batch) -> int:
    """The input of one layer, all that it keeps under gradient checkpointing."""
    return batch.tokens * arch.hidden * how.stream


def mask_bytes(batch: Batch) -> int:
    """One truth value a pair of positions, shared by all layers."""
    return batch.rows * batch.length**2 if batch.masked else 0


def head_bytes(arch: Architecture, how: Arithmetic, batch: Batch, full: bool) -> int:
    """The output head's loss and gradient: one tile of logits at a time, and the gradient of the last hidden states."""
    rows, words = min(batch.tokens, TILE_TOKENS), min(arch.head.outputs, TILE_WORDS)
    tiles = rows * TILE_WORDS * how.matrix  # as wide for a small vocabulary too
    if not how.cuda:
        tiles += rows * words * (_TILE_COPIES_BYTES + (FP32 if arch.capped_logits else 0))
    states = batch.tokens * arch.hidden * (FP32 + how.stream)
    cast = words * arch.hidden * how.matrix if how.matrix != how.stream else 0
    return tiles + states + cast + (arch.head.size * FP32 if full else 0)


def final_norm_bytes(arch: Architecture, batch: Batch) -> int:
    """The last normalisation keeps its input in fp32, and what it gives is the head's input."""
    return batch.tokens * arch.hidden * FP32


def _norms(arch: Architecture, layer: Layer, how: Arithmetic, what: Adaptation) -> int:
    """An input each: in fp32 where it is written out or under autocast, else as the stream is."""
    kept = FP32 if not layer.fused_norm or how.autocast else how.stream
    scaled = how.stream if what.full and not layer.fused_norm else 0  # what the trained scale was multiplied by
    return layer.norms * arch.hidden * (kept + scaled)


def _attention_tensors(arch: Architecture, how: Arithmetic, batch: Batch) -> int:
    """Queries, keys, values, output; a mask makes transformers repeat keys and values for every head."""
    queries = arch.heads * arch.head_width
    keys = queries if batch.masked else arch.key_heads * arch.head_width
    # The values are a view of the fused product, and keep all of it.
    fused = (queries + arch.key_heads * arch.head_width) * how.matrix if arch.fused_qkv else 0
    return (2 * queries + 2 * keys) * how.matrix + fused


def _scores(arch: Architecture, how: Arithmetic, batch: Batch) -> int:
    """Fused attention keeps a sum a row and its mask as numbers; eager attention keeps the scores."""
    pairs = batch.rows * batch.length**2
    dropped = arch.attention_dropout > 0
    if arch.attention == "eager" or (dropped and not how.cuda):
        # Softmax in fp32, its result as the values are, a cap's tanh, and with dropout the noise and what it leaves.
        noise = ((1 if how.cuda else how.matrix) + how.matrix) if dropped else 0
        kept = FP32 + (how.matrix if how.matrix != FP32 else 0) + (how.matrix if arch.capped_scores else 0)
        return arch.heads * pairs * (kept + noise)
    return batch.tokens * arch.heads * FP32 + (pairs * how.matrix if batch.masked else 0)


def _mlp_tensors(arch: Architecture, layer: Layer, how: Arithmetic) -> int:
    """Gated: the activation's input, its output and the other half. Experts: the same for each that a token goes to."""
    dense = layer.inner * (3 if layer.gated else layer.kept)
    # Both halves, the activation's output, and the expert's output, which is weighted.
    routed = arch.experts_per_token * (3 * layer.expert_inner + arch.hidden) if layer.experts else 0
    return (dense + routed) * how.matrix


def _by_input(layer: Layer) -> list[Linear]:
    return sorted(layer.linears, key=lambda linear: linear.reads)


def _inputs(group: list[Linear], layer: Layer, how: Arithmetic, what: Adaptation) -> int:
    """Inputs that linear modules keep, those that read the same tensor together."""
    if what.full:
        return _trained_inputs(group, layer, how)
    adapted = [linear for linear in group if linear.name in what.names]
    kept = group[0].inputs * how.matrix if what.stored == "int8" else 0  # LLM.int8() keeps it for its own backward
    shared = 0 if _is_counted(group[0], layer) else group[0].inputs * how.matrix
    narrow = 2 if how.autocast else FP32
    for linear in adapted:
        kept += what.rank * narrow
        if what.dropout:
            noise = 1 if how.cuda else _wide(how, what)
            kept += linear.inputs * (noise + narrow)
        elif _is_cast(how, what):
            kept += linear.inputs * narrow
        else:
            kept, shared = kept + shared, 0
        if what.dora:
            kept += linear.outputs * (how.matrix + narrow)  # the base's product and the adapter's, for the magnitude
    return kept


def _wide(how: Arithmetic, what: Adaptation) -> int:
    """PEFT casts an adapter's input to fp32, except over 4-bit weights under autocast."""
    return how.stream if how.autocast and what.stored != "none" else FP32


def _is_cast(how: Arithmetic, what: Adaptation) -> bool:
    """Whether the adapter's product works on its own copy of its input."""
    narrow = 2 if how.autocast else FP32
    return how.stream != narrow or (how.autocast and _wide(how, what) != narrow)


def _trained_inputs(group: list[Linear], layer: Layer, how: Arithmetic) -> int:
    if how.autocast and group[0].reads.startswith("stream"):
        return sum(linear.inputs for linear in group) * how.matrix  # each casts the fp32 stream for itself
    return 0 if _is_counted(group[0], layer) else group[0].inputs * how.matrix


def _is_counted(linear: Linear, layer: Layer) -> bool:
    """Whether its input is kept anyway: attention keeps its output, and ReLU does."""
    return linear.reads == "heads" or (linear.reads == "inner" and layer.keeps_result)


def _hidden_dropout(arch: Architecture, how: Arithmetic) -> int:
    """Noise on the output of attention and of the MLP: truth values on a GPU, numbers elsewhere."""
    return 2 * arch.hidden * (1 if how.cuda else how.matrix) if arch.hidden_dropout > 0 else 0


def _weights_kept(layer: Layer, how: Arithmetic, what: Adaptation) -> int:
    """Copies of weights in another type than they are stored in, for the gradient of their inputs."""
    kept = 0
    recast = how.matrix != how.stream and what.stored == "none" and not what.full
    # With dropout, PEFT's DoRA computes the base's product itself, on the expanded weight.
    other_type = what.stored != "none" or (how.stream != FP32 and not how.autocast)
    expanded = what.dora and what.dropout and other_type
    for linear in layer.linears:
        if recast:
            kept += linear.size * how.matrix
        if expanded and linear.name in what.names:
            kept += linear.size * (how.matrix if how.autocast else FP32)
    if layer.experts and what.stored == "nf4":
        kept += layer.experts * how.stream  # expanded as a whole
    return kept
