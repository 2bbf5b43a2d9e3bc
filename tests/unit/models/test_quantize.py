from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError, ConfigError
from tunery.models.adapter import attach_adapter
from tunery.models.base import load_base

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61]])


def gradient_below_the_last_layer(model: Any) -> torch.Tensor:
    model.train()
    model.zero_grad()
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
    return model.get_parameter(name).grad.clone()


def test_an_evaluation_between_two_steps_leaves_the_gradient_as_it_was(llama: Path) -> None:
    # On a CPU with AVX512-BF16 this fails without keep_cpu_layout: one forward in eval mode repacks the weights.
    loaded = load_base(BaseConfig(model=str(llama), quantization="nf4"), Path(), "cpu")
    model = attach_adapter(loaded, AdapterConfig(dropout=0.0), seed=0).model
    before = gradient_below_the_last_layer(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=TOKENS)
    assert before.abs().max() > 0
    assert torch.equal(gradient_below_the_last_layer(model), before)


def test_every_4_bit_layer_is_kept_in_its_cpu_layout(llama: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    loaded = load_base(BaseConfig(model=str(llama), quantization="nf4"), Path(), "cpu")
    layers = [module for module in loaded.model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_double_quantisation_and_compute_dtype_reach_the_layers(llama: Path) -> None:
    base = BaseConfig(model=str(llama), double_quantization=False, compute_dtype="bfloat16")
    layer = load_base(base, Path(), "cpu").model.model.layers[0].self_attn.q_proj
    assert not layer.weight.quant_state.nested
    assert layer.compute_dtype == torch.bfloat16
    doubled = load_base(BaseConfig(model=str(llama)), Path(), "cpu").model.model.layers[0].self_attn.q_proj
    assert doubled.weight.quant_state.nested


def test_int8_without_cuda_is_refused(llama: Path) -> None:
    with pytest.raises(BaseModelError, match=r"base\.quantization is 'int8'.*Use nf4"):
        load_base(BaseConfig(model=str(llama), quantization="int8"), Path(), "cpu")


def test_fused_experts_are_stored_in_4_bits(mixtral: Path) -> None:
    loaded = load_base(BaseConfig(model=str(mixtral), quantization="nf4"), Path(), "cpu")
    experts = loaded.model.model.layers[0].mlp.experts
    stored = {name: p for name, p in experts.named_parameters() if "original" in name}
    assert {p.dtype for p in stored.values()} == {torch.uint8}
    assert sum(p.numel() for p in stored.values()) == (4 * 128 * 64 + 4 * 64 * 64) // 2  # two weights a byte
    assert any("expert" in note for note in loaded.notes)


def test_quantised_experts_compute_what_their_rounded_weights_say(mixtral: Path) -> None:
    """Oracle: the full-precision model, its weights rounded to NF4 and back by bitsandbytes' own functions."""
    from bitsandbytes import functional

    plain = load_base(BaseConfig(model=str(mixtral), quantization="none"), Path(), "cpu").model
    quantised = load_base(BaseConfig(model=str(mixtral), quantization="nf4"), Path(), "cpu").model
    for layer in plain.model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            rounded(functional, getattr(layer.self_attn, name).weight)
        for name in ("gate_up_proj", "down_proj"):
            rounded(functional, getattr(layer.mlp.experts, name))
    with torch.no_grad():
        torch.testing.assert_close(quantised(TOKENS).logits, plain(TOKENS).logits, atol=1e-4, rtol=1e-4)


def rounded(functional: Any, weight: torch.Tensor) -> None:
    packed, state = functional.quantize_4bit(weight.data, quant_type="nf4", compress_statistics=True)
    weight.data = functional.dequantize_4bit(packed, state)


def test_expert_adapters_over_quantised_experts_are_refused(mixtral: Path) -> None:
    loaded = load_base(BaseConfig(model=str(mixtral), quantization="nf4"), Path(), "cpu")
    with pytest.raises(ConfigError, match=r"adapter\.target_parameters.*match nothing"):
        attach_adapter(loaded, AdapterConfig(target_parameters=["experts.down_proj"]), seed=0)


def test_expert_adapters_over_plain_experts_are_trained(mixtral: Path) -> None:
    loaded = load_base(BaseConfig(model=str(mixtral), quantization="none"), Path(), "cpu")
    adapter = AdapterConfig(target_parameters=["mlp.experts.down_proj"], target_modules=["q_proj"], dropout=0.0)
    model = attach_adapter(loaded, adapter, seed=0).model
    trained = [name for name, p in model.named_parameters() if p.requires_grad and "experts" in name]
    assert trained


def test_an_expert_parameter_that_is_not_there_is_refused_with_the_nearest(mixtral: Path) -> None:
    loaded = load_base(BaseConfig(model=str(mixtral), quantization="none"), Path(), "cpu")
    with pytest.raises(ConfigError, match=r"experts\.donw_proj.*Nearest: down_proj"):
        attach_adapter(loaded, AdapterConfig(target_parameters=["experts.donw_proj"], dropout=0.0), seed=0)
