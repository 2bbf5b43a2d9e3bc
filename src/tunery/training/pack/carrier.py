"""The model that computes a pack: the base once for the rows of all members, beside each row its own member's adapter.

Rows of different members never meet: attention, normalisation and losses are of one row, and the products of the
adapters are batched by member. What differs from a member alone is the order in which numbers are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional
from trl.trainer.utils import add_fused_lm_head

from tunery.models.adapter import detach_adapter
from tunery.models.sharing import sharing_weights

_ADAPTER = "default"
_IGNORED = -100
_PREFIX = "base_model.model."
_FILLS = {"input_ids": 0, "attention_mask": 0, "labels": _IGNORED}
# What TRL asks of its output head: the loss, and two numbers that it averages for its log.
_OUTPUTS = ("log_probs", "entropy", "is_top1")


@dataclass
class Member:
    """A model with an adapter that is trained in a pack."""

    model: Any  # a PeftModel over `sharing_weights` of the base
    layers: Mapping[str, LoraLayer] = field(init=False)  # by the name of the base's module

    def __post_init__(self) -> None:
        named = self.model.named_modules()
        self.layers = {name.removeprefix(_PREFIX): one for name, one in named if isinstance(one, LoraLayer)}


@dataclass
class Part:
    """A member's batch, and its place among the rows of the pack."""

    member: Member
    inputs: Mapping[str, torch.Tensor]  # input_ids, attention_mask, labels, each (rows, tokens)
    generator: torch.Generator  # that dropout draws from, as the member alone would

    @property
    def rows(self) -> int:
        """Of its batch."""
        return int(self.inputs["input_ids"].shape[0])

    @property
    def tokens(self) -> int:
        """In a row, with padding."""
        return int(self.inputs["input_ids"].shape[1])


class Carrier:
    """The base with places for the adapters of all members.

    Args:
        member: Any; the others' adapters must be on the same weights.
    """

    def __init__(self, member: Member) -> None:
        self.model = detach_adapter(sharing_weights(member.model))
        vars(self.model).pop("forward", None)  # that of the member's trainer
        self._batch = _Batch()
        self._places: dict[str, _PackedLinear] = {}
        # As TRL's trainer does with a model that it trains: log-probabilities instead of logits.
        head = self.model.get_output_embeddings()
        if not hasattr(head, "bias"):
            head.bias = None
        add_fused_lm_head(self.model, outputs=_OUTPUTS)
        self.model.train()

    def holds(self, model: Any) -> bool:
        """Whether a model stands on the same weights."""
        return bool(model.get_input_embeddings().weight is self.model.get_input_embeddings().weight)

    def forward(self, parts: Sequence[Part]) -> Any:
        """Log-probabilities of the labels, entropy and hits, each (parts x rows, tokens - 1), filled up."""
        self._prepare(parts)
        batch = self._batch
        batch.begin(parts)
        laid = {
            name: torch.cat([batch.filled(part.inputs[name], fill) for part in parts]) for name, fill in _FILLS.items()
        }
        laid["attention_mask"][:, 0] = 1  # a row that fills up sees itself, not nothing: softmax would give NaN
        try:
            return self.model(**laid, use_cache=False, fused_lm_head=True)
        finally:
            batch.end()

    def _prepare(self, parts: Sequence[Part]) -> None:
        """Make a place at each module that a member adapts."""
        for name in {name for part in parts for name in part.member.layers} - self._places.keys():
            parent, _, leaf = name.rpartition(".")
            owner = self.model.get_submodule(parent)
            self._places[name] = _PackedLinear(getattr(owner, leaf), name, self._batch)
            setattr(owner, leaf, self._places[name])


class _PackedLinear(nn.Module):
    """A product of the base, and the adapters' beside it."""

    def __init__(self, base: nn.Module, name: str, batch: _Batch) -> None:
        super().__init__()
        self.base, self.name = base, name
        self._batch = batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base(x)
        update = self._batch.update(self.name, x, result.shape[-1])
        return result if update is None else result + update.to(result.dtype)


@dataclass
class _Batch:
    """What the places need to know of the batch that is computed: parts, all filled up to one shape."""

    parts: Sequence[Part] = ()
    rows: int = 0
    tokens: int = 0

    def begin(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.rows, self.tokens = max(part.rows for part in parts), max(part.tokens for part in parts)

    def end(self) -> None:
        self.parts = ()

    def filled(self, values: torch.Tensor, fill: int) -> torch.Tensor:
        missing = (0, self.tokens - values.shape[1], 0, self.rows - values.shape[0])
        return functional.pad(values, missing, value=fill)

    def update(self, name: str, x: torch.Tensor, out_features: int) -> torch.Tensor | None:
        """Of all rows: B A x, scaled, by the adapters of each row's member; (parts x rows, tokens, out_features)."""
        layers = [part.member.layers.get(name) for part in self.parts]
        rank = max((layer.r[_ADAPTER] for layer in layers if layer is not None), default=0)
        if not rank:  # whoever adapted it has left
            return None
        inner, outer = self._stacked(layers, rank, x.shape[-1], out_features, x.device)
        rows = x.reshape(len(layers) * self.rows, self.tokens, x.shape[-1])  # some models lay tokens out as rows
        of_members = self._dropped(layers, rows).reshape(len(layers), -1, x.shape[-1])
        update = torch.bmm(torch.bmm(of_members.to(inner.dtype), inner.transpose(1, 2)), outer.transpose(1, 2))
        return update.reshape(*x.shape[:-1], out_features)

    def _stacked(
        self, layers: Sequence[LoraLayer | None], rank: int, width: int, out_features: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A of every member (members, rank, width) and B, scaled (members, out_features, rank).

        A rank below the largest is filled up with zeros in the rows of A and the columns of B alike.
        """
        inner, outer = [], []
        for layer in layers:
            if layer is None:
                inner.append(torch.zeros(rank, width, device=device))
                outer.append(torch.zeros(out_features, rank, device=device))
                continue
            missing = rank - layer.r[_ADAPTER]
            first, second = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight * layer.scaling[_ADAPTER]
            inner.append(functional.pad(first, (0, 0, 0, missing)) if missing else first)
            outer.append(functional.pad(second, (0, missing)) if missing else second)
        return torch.stack(inner), torch.stack(outer)

    def _dropped(self, layers: Sequence[LoraLayer | None], x: torch.Tensor) -> torch.Tensor:
        """Each member's rows after its own dropout, whose mask is drawn as in a batch of these rows alone."""
        shares = [_dropout(layer) for layer in layers]
        if not any(shares):
            return x
        kept = x.new_ones(x.shape)
        for place, (part, share) in enumerate(zip(self.parts, shares, strict=True)):
            if share:
                of_part = kept[place * self.rows :][: part.rows, : part.tokens]
                own = (
                    of_part
                    if of_part.is_contiguous()
                    else torch.empty_like(of_part, memory_format=torch.contiguous_format)
                )
                own.bernoulli_(1 - share, generator=part.generator).div_(1 - share)
                if own is not of_part:
                    of_part.copy_(own)
        return x * kept


def _dropout(layer: LoraLayer | None) -> float:
    return 0.0 if layer is None else float(getattr(layer.lora_dropout[_ADAPTER], "p", 0.0))
