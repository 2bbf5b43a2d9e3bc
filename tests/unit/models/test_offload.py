"""Offloaded layers, on a CPU: "cpu:0" stands for the card, so that hooks, copies and meta tensors are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.models.conftest import write_llama
from torch import nn

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError
from tunery.evaluation.eval_mode import adapter_off
from tunery.models.adapter_files import load_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.offload import offload_notes

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61]])
CARD = "cpu:0"
PLACES = {
    "model.embed_tokens": CARD,
    "model.layers.0": CARD,
    "model.layers.1": "cpu",
    "model.norm": CARD,
    "model.rotary_emb": CARD,
    "lm_head": CARD,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def load(folder: Path, placement: dict[str, str] | None = None, quantization: str = "none") -> LoadedBase:
    base = BaseConfig(model=str(folder), dtype="float32", quantization=quantization, weights="packed")
    return load_base(base, Path(), "cpu", chat=False, placement=placement)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def adapter(base: Path, folder: Path, **settings: Any) -> Any:
    """A saved adapter, and the model that it was saved from."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**lora))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape) * 0.2)
    model.save_pretrained(str(folder))
    return model.eval()


def test_a_base_with_an_offloaded_layer_answers_as_without_and_the_layers_weights_are_nowhere_between(
    llama: Path,
) -> None:
    plain, loaded = load(llama), load(llama, PLACES)
    for _ in range(2):
        assert {weight.device.type for weight in loaded.model.model.layers[1].parameters()} == {"meta"}
        assert {weight.device.type for weight in loaded.model.model.layers[0].parameters()} == {"cpu"}
        assert torch.equal(logits(loaded.model), logits(plain.model))
    assert loaded.offloaded == ("model.layers.1",)


def test_what_it_writes_with_kept_keys_and_values_is_what_the_base_writes(llama: Path) -> None:
    asked = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 2}
    written = [load(llama, places).model.generate(TOKENS, **asked) for places in (None, PLACES)]
    assert torch.equal(*written)
    assert written[0].shape[1] > TOKENS.shape[1]


def test_under_nf4_layers_on_the_card_are_quantised_and_offloaded_ones_are_not(llama: Path) -> None:
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    loaded = load(llama, PLACES, "nf4")
    first, last = (layer.self_attn.q_proj for layer in loaded.model.model.layers)
    assert isinstance(first, Linear4bit)
    assert type(last) is nn.Linear
    skipped = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["model.layers.1", "lm_head"],
    )
    same = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32, quantization_config=skipped)
    assert torch.allclose(logits(loaded.model), logits(same.eval()), atol=1e-5)
    assert not torch.allclose(logits(loaded.model), logits(load(llama).model), atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_an_adapter_over_offloaded_layers_answers_as_over_the_whole_base_and_switched_off_as_the_base(
    llama: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    right, base = logits(adapter(llama, tmp_path, **settings)), logits(load(llama).model)
    assert (right - base).abs().max() > 0.2
    loaded = load(llama, PLACES)
    model = load_adapter(loaded, tmp_path, by_hand=True)
    for _ in range(2):
        assert torch.allclose(logits(model), right, atol=1e-5)
        with adapter_off(model):
            assert torch.allclose(logits(model), base, atol=1e-5)
    held = {name: weight.device.type for name, weight in model.named_parameters() if "lora_A" in name}
    assert {place for name, place in held.items() if ".layers.1." in name} == {"meta"}, "offloaded again"


def test_an_adapter_that_does_not_fit_leaves_the_layers_offloaded(llama: Path, tmp_path: Path) -> None:
    import json

    adapter(llama, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "target_modules": ["nowhere"]}))
    loaded = load(llama, PLACES)
    with pytest.raises(BaseModelError, match="does not fit"):
        load_adapter(loaded, tmp_path, by_hand=True)
    assert torch.equal(logits(loaded.model), logits(load(llama).model))


def test_which_layers_are_offloaded_is_part_of_the_bases_identity(llama: Path) -> None:
    assert load(llama, PLACES).identity.details["offloaded"] == ["model.layers.1"]
    assert "offloaded" not in load(llama).identity.details


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_transformers_is_given_the_map_and_the_switch_that_allows_it(
    llama: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    asked: dict[str, Any] = {}

    def from_pretrained(*_: Any, **settings: Any) -> Any:
        asked.update(settings)
        raise RuntimeError("far enough")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)
    places = {name: "cpu" if place == "cpu" else "cuda" for name, place in PLACES.items()}
    base = BaseConfig(model=str(llama), dtype="float16", quantization=quantization)
    with pytest.raises(BaseModelError, match="far enough"):
        load_base(base, Path(), "cuda", placement=places)
    assert asked["device_map"] == places
    assert asked["dtype"] == torch.float16
    switch = getattr(asked["quantization_config"], "llm_int8_enable_fp32_cpu_offload", None)
    assert switch == (None if quantization == "none" else True)


def test_fused_experts_of_an_offloaded_layer_stay_as_they_are() -> None:
    from tunery.models.quantize import quantize_experts

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Parameter(torch.zeros(2, 64, 64))

    model = nn.Module()
    model.layers = nn.ModuleList([nn.ModuleDict({"experts": Experts()}) for _ in range(11)])
    assert quantize_experts(model, True, ["layers.1"]) == 10, "layers.10 has another name"
    assert model.layers[1]["experts"].down.dtype == torch.float32


def test_transformers_places_as_ever_afterwards(llama: Path) -> None:
    from transformers import modeling_utils

    before = modeling_utils.accelerate_dispatch
    load(llama, PLACES)
    assert modeling_utils.accelerate_dispatch is before


def test_a_person_is_told_which_layers_lie_where() -> None:
    assert offload_notes(()) == ()
    assert "2 layers (layers.2 to layers.3) lie unquantised" in offload_notes(("layers.2", "layers.3"))[0]
    assert "layer layers.3 lies unquantised" in offload_notes(("layers.3",))[0]
