"""Weights that are kept expanded compute what packed ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.models import expanded
from tunery.models.adapter import attach_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.expanded import ExpandedLinear4bit

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61], [7, 8, 9, 10, 11, 12]])


def base(folder: Path, weights: str, **settings: Any) -> LoadedBase:
    return load_base(BaseConfig(model=str(folder), weights=weights, **settings), Path(), "cpu")  # type: ignore[arg-type]


def trained(loaded: LoadedBase, **adapter: Any) -> tuple[list[float], torch.Tensor]:
    """Losses of five steps, with a look at the model in evaluation mode after each, and the logits at the end."""
    model = attach_adapter(loaded, AdapterConfig(**adapter), seed=0).model
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.01)
    torch.manual_seed(1)
    losses = []
    for _ in range(5):
        model.train()
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=TOKENS).logits
    return losses, logits


@pytest.mark.parametrize("adapter", [{}, {"dora": True}, {"rslora": True, "dropout": 0.5}], ids=str)
@pytest.mark.parametrize("double", [True, False])
def test_losses_and_logits_are_the_same_to_the_last_bit(llama: Path, adapter: dict[str, Any], double: bool) -> None:
    packed = trained(base(llama, "packed", double_quantization=double), **adapter)
    kept = trained(base(llama, "expanded", double_quantization=double), **adapter)
    assert kept[0] == packed[0]
    assert kept[0][-1] < kept[0][0]
    assert torch.equal(kept[1], packed[1])


def test_a_weight_that_was_merged_into_is_expanded_anew(llama: Path) -> None:
    logits = []
    for weights in ("packed", "expanded"):
        model = attach_adapter(base(llama, weights), AdapterConfig(), seed=0).model
        with torch.no_grad():
            for parameter in (one for name, one in model.named_parameters() if "lora_B" in name):
                parameter.add_(0.1)
            before = model(input_ids=TOKENS).logits  # expanded here
            model.merge_adapter()
            logits.append(model(input_ids=TOKENS).logits)
        assert not torch.equal(logits[-1], before)
    assert torch.equal(logits[1], logits[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_products_agree_to_their_rounding(llama: Path, dtype: str) -> None:
    logits = []
    for weights in ("packed", "expanded"):
        with torch.no_grad():
            logits.append(base(llama, weights, compute_dtype=dtype).model(input_ids=TOKENS).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=0.05, atol=0.05)


def test_what_is_stored_stays_packed(llama: Path) -> None:
    packed, kept = (base(llama, weights).model for weights in ("packed", "expanded"))
    kept(input_ids=TOKENS)
    stored, states = kept.state_dict(), packed.state_dict()
    assert stored.keys() == states.keys()
    assert all(torch.equal(stored[name], states[name]) for name in stored)
    assert stored["model.layers.0.self_attn.q_proj.weight"].dtype == torch.uint8


def layers(model: Any) -> list[type]:
    return [type(module) for module in model.modules() if isinstance(module, Linear4bit)]


@pytest.mark.parametrize(
    ("weights", "free", "kind"),
    [
        ("auto", 2.0, ExpandedLinear4bit),
        ("auto", 1.9, Linear4bit),
        ("expanded", 1.0, ExpandedLinear4bit),
        ("expanded", 0.9, Linear4bit),
        ("packed", 9.0, Linear4bit),
    ],
)
def test_memory_decides(llama: Path, monkeypatch: pytest.MonkeyPatch, weights: str, free: float, kind: type) -> None:
    needed = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128) * 4  # two layers; queries, outputs, keys, values, MLP
    monkeypatch.setattr(expanded, "available_bytes", lambda device: int(needed * free))
    loaded = base(llama, weights)
    assert set(layers(loaded.model)) == {kind}
    told = any("base.weights: expanded needs" in note for note in loaded.notes)
    assert told == (weights == "expanded" and kind is Linear4bit)  # only who asked for it is told that it cannot be


def test_on_a_card_only_who_asks_for_it_spends_memory(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = base(llama, "packed").model
    monkeypatch.setattr(expanded, "available_bytes", lambda device: 2**40)
    assert expanded.settle_weights(model, "auto", "cuda", torch.bfloat16) == ()
    assert set(layers(model)) == {Linear4bit}


def test_unquantised_weights_are_as_they_are(llama: Path) -> None:
    loaded = base(llama, "expanded", quantization="none")
    assert layers(loaded.model) == []
    assert not any("base.weights" in note for note in loaded.notes)
