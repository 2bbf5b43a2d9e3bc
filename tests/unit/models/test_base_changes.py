"""Which adapters leave the base as it is; the oracle is the base's own logits, before and with the adapter off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError
from tunery.models.adapter_files import load_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.base_changes import base_changes, check_start

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61]])


def load(folder: Path, quantization: str = "none") -> LoadedBase:
    return load_base(BaseConfig(model=str(folder), quantization=quantization), Path(), "cpu", chat=False)  # type: ignore[arg-type]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def save(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter as another tool saves it: every trainable weight has moved."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(load(base).model, LoraConfig(**lora))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape) * 0.05)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def changes_of(folder: Path) -> list[str]:
    recorded = json.loads((folder / "adapter_config.json").read_text())
    return base_changes(recorded, folder / "adapter_model.safetensors")


KEEPS = [
    {},
    {"init_lora_weights": "gaussian"},
    {"init_lora_weights": "orthogonal"},
    {"use_dora": True},
    {"use_rslora": True},
    {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 16}},
    {"target_modules": ["q_proj", "embed_tokens"]},
]


@pytest.mark.parametrize("settings", KEEPS)
def test_the_base_is_itself_under_an_adapter_that_changes_nothing(
    llama: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = save(llama, tmp_path / "adapter", **settings)
    assert changes_of(folder) == []
    base = load(llama)
    expected = logits(base.model)
    model = load_adapter(base, folder)
    assert not torch.equal(logits(model), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        ({"init_lora_weights": "olora"}, "init_lora_weights: olora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias: all"),
        ({"trainable_token_indices": [3, 4]}, "trainable_token_indices"),
        ({"layer_replication": [(0, 2), (1, 2)]}, "layer_replication"),
    ],
)
def test_what_changes_the_base_is_found_in_the_adapters_files(
    llama: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    assert told in changes_of(save(llama, tmp_path / "adapter", **settings))


def test_weights_that_no_config_speaks_of_count_as_a_change(llama: Path, tmp_path: Path) -> None:
    folder = save(llama, tmp_path / "adapter", modules_to_save=["lm_head"])
    recorded = json.loads((folder / "adapter_config.json").read_text()) | {"modules_to_save": None}
    assert base_changes(recorded, folder / "adapter_model.safetensors") == [
        "weights of its own: base_model.model.lm_head.weight"
    ]


@pytest.mark.parametrize("kind", ["IA3", "SOME_FUTURE_KIND"])
def test_other_kinds_than_lora_count_as_a_change(llama: Path, tmp_path: Path, kind: str) -> None:
    folder = save(llama, tmp_path / "adapter")
    assert base_changes({"peft_type": kind}, folder / "adapter_model.safetensors") == [f"peft_type: {kind}"]


@pytest.mark.parametrize("start", ["pissa_niter_16", "corda", "lora_ga"])
def test_a_start_that_cannot_be_repeated_is_refused(start: str) -> None:
    with pytest.raises(BaseModelError, match=rf"init_lora_weights: {start} needs .* Convert it with PEFT"):
        check_start("adapter", {"init_lora_weights": start}, "none")


def test_pissa_over_four_bits_is_refused_in_words(llama: Path, tmp_path: Path) -> None:
    folder = save(llama, tmp_path / "adapter", init_lora_weights="pissa")
    with pytest.raises(BaseModelError, match=r"base\.quantization is 'nf4', but must be none for an adapter.* pissa"):
        load_adapter(load(llama, "nf4"), folder)
    load_adapter(load(llama), folder)


def test_a_random_start_of_pissa_is_another_model_at_each_load(llama: Path, tmp_path: Path) -> None:
    """Why it is refused: PEFT says nothing."""
    from peft import PeftModel

    folder = save(llama, tmp_path / "adapter", init_lora_weights="pissa_niter_1")
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(logits(PeftModel.from_pretrained(load(llama).model, str(folder)).eval()))
    assert not torch.allclose(found[0], found[1], atol=1e-3)
