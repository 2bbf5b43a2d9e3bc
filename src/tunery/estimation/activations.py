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
    masked: bool  # by padding or packing

    @property
    def tokens(self) -> int:
        """Positions in one forward pass."""
        return self.rows * self.length


@dataclass(frozen=True)
class Pass:
    """One forward pass, and the bytes of what it keeps and works with."""

    arch: Architecture
    how: Arithmetic
    what: Adaptation
    batch: Batch

    def layer_bytes(self, layer: Layer) -> int:
        """Kept by one decoder layer between its forward and its backward pass."""
        how, hidden = self.how, self.arch.hidden
        by_input = sorted(layer.linears, key=lambda linear: linear.reads)
        # Normalisations keep their input: in fp32 where they are written out or under autocast, else as the stream is;
        # and what their trained scale was multiplied by.
        norm = FP32 if not layer.fused_norm or how.autocast else how.stream
        norm += how.stream if self.what.full and not layer.fused_norm else 0
        per_token = (layer.norms * hidden + layer.head_norms) * norm
        per_token += self._attention_tensors(layer) + self._mlp_tensors(layer)
        per_token += sum(self._inputs(list(group), layer) for _, group in groupby(by_input, lambda one: one.reads))
        if self.arch.hidden_dropout > 0:
            # Noise on the output of attention and of the MLP: truth values on a GPU, numbers elsewhere.
            per_token += 2 * hidden * (1 if how.cuda else how.matrix)
        return self.batch.tokens * per_token + self._scores(layer) + self._weights_kept(layer)

    def layer_work_bytes(self, layer: Layer) -> int:
        """Additional bytes while one layer's gradient is computed: gradients of its widest tensors, expanded weights.

        The gradient of the stream and of the normalised stream, three of the MLP's width, and the largest weight in the
        type that its product is taken in; an expansion from 4 bit in another type than the gradient's is there twice.
        """
        arch, how, what = self.arch, self.how, self.what
        inner = max(layer.inner, arch.experts_per_token * layer.expert_inner)
        work = self.batch.tokens * (2 * arch.hidden * how.stream + 3 * inner * how.matrix)
        largest = max((linear.size for linear in layer.linears), default=0)
        if what.stored != "none":
            work += largest * how.matrix + (largest * FP32 // 64 if what.stored == "nf4" else 0)
        adapted = [linear for linear in layer.linears if linear.name in what.names]
        if what.dora and adapted:
            # An identity matrix goes through the adapter, then the whole weight's norm is taken, in fp32.
            work += max(FP32 * (linear.inputs**2 + 3 * linear.size) for linear in adapted)
        return work

    def checkpoint_bytes(self) -> int:
        """The input of one layer, all that it keeps under gradient checkpointing."""
        return self.batch.tokens * self.arch.hidden * self.how.stream

    def mask_bytes(self) -> int:
        """One truth value a pair of positions, shared by all layers of one window."""
        windows = {layer.window for layer in self.arch.layers if self._masked(layer)}
        return self.batch.rows * self.batch.length**2 * len(windows)

    def head_bytes(self) -> int:
        """The output head's loss and gradient: one tile of logits at a time, and the last hidden states' gradient."""
        arch, how = self.arch, self.how
        rows, words = min(self.batch.tokens, TILE_TOKENS), min(arch.head.outputs, TILE_WORDS)
        tiles = rows * TILE_WORDS * how.matrix  # as wide for a small vocabulary too
        if not how.cuda:
            tiles += rows * words * (_TILE_COPIES_BYTES + (FP32 if arch.capped_logits else 0))
        states = self.batch.tokens * arch.hidden * (FP32 + how.stream)
        cast = words * arch.hidden * how.matrix if how.matrix != how.stream else 0
        return tiles + states + cast + (arch.head.size * FP32 if self.what.full else 0)

    def final_norm_bytes(self) -> int:
        """The last normalisation keeps its input in fp32, and what it gives is the head's input."""
        return self.batch.tokens * self.arch.hidden * FP32

    def _masked(self, layer: Layer) -> bool:
        """Whether attention is given a mask: past its window, a layer needs one for a single row too."""
        return self.batch.masked or (layer.window is not None and self.batch.length >= layer.window)

    def _attention_tensors(self, layer: Layer) -> int:
        """Queries, keys, values, output; a mask makes transformers repeat keys and values for every head."""
        arch = self.arch
        queries, own_keys = arch.heads * arch.head_width, arch.key_heads * arch.head_width
        keys = queries if self._masked(layer) else own_keys
        # The values are a view of the fused product, and keep all of it.
        fused = queries + own_keys if arch.fused_qkv else 0
        return (2 * queries + 2 * keys + fused) * self.how.matrix

    def _scores(self, layer: Layer) -> int:
        """Fused attention keeps a sum a row and its mask as numbers; eager attention keeps the scores."""
        arch, how, batch = self.arch, self.how, self.batch
        pairs = batch.rows * batch.length**2
        dropped = arch.attention_dropout > 0
        if arch.attention == "eager" or (dropped and not how.cuda):
            # Softmax in fp32, its result as the values are, a cap's tanh; with dropout the noise and what it leaves.
            noise = ((1 if how.cuda else how.matrix) + how.matrix) if dropped else 0
            kept = FP32 + (how.matrix if how.matrix != FP32 else 0) + (how.matrix if arch.capped_scores else 0)
            return arch.heads * pairs * (kept + noise)
        return batch.tokens * arch.heads * FP32 + (pairs * how.matrix if self._masked(layer) else 0)

    def _mlp_tensors(self, layer: Layer) -> int:
        """Gated: the activation's input, output and the other half. Experts: the same for each that a token goes to."""
        dense = layer.inner * (3 if layer.gated else layer.kept)
        # Both halves, the activation's output, and the expert's output, which is weighted.
        routed = self.arch.experts_per_token * (3 * layer.expert_inner + self.arch.hidden) if layer.experts else 0
        return (dense + routed) * self.how.matrix

    def _inputs(self, group: list[Linear], layer: Layer) -> int:
        """Inputs that linear modules keep, those that read the same tensor together."""
        how, what, reads = self.how, self.what, group[0].reads
        # Attention keeps its output anyway, and ReLU does.
        counted = reads == "heads" or (reads == "inner" and layer.keeps_result)
        shared = 0 if counted else group[0].inputs * how.matrix
        if what.full:
            if how.autocast and reads.startswith("stream"):
                return sum(linear.inputs for linear in group) * how.matrix  # each casts the fp32 stream for itself
            return shared
        narrow = 2 if how.autocast else FP32
        # PEFT casts an adapter's input to fp32, except over 4-bit weights under autocast.
        wide = how.stream if how.autocast and what.stored != "none" else FP32
        cast = how.stream != narrow or (how.autocast and wide != narrow)  # its product works on a copy of its own
        kept = group[0].inputs * how.matrix if what.stored == "int8" else 0  # LLM.int8() keeps it for its own backward
        for linear in (linear for linear in group if linear.name in what.names):
            kept += what.rank * narrow
            if what.dropout:
                kept += linear.inputs * ((1 if how.cuda else wide) + narrow)  # the noise, and what it leaves
            elif cast:
                kept += linear.inputs * narrow
            else:
                kept, shared = kept + shared, 0
            if what.dora:
                kept += linear.outputs * (how.matrix + narrow)  # the base's product and the adapter's, for magnitudes
        return kept

    def _weights_kept(self, layer: Layer) -> int:
        """Copies of weights in another type than they are stored in, for the gradient of their inputs."""
        how, what, kept = self.how, self.what, 0
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
