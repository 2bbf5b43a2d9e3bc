"""vLLM's rules for adapter folders, on hand-made settings and on folders that training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.models.adapter import attach_adapter
from tunery.models.adapter_files import save_adapter
from tunery.models.base import load_base
from tunery.serving.export.vllm_rules import rank_option, read_adapter, vllm_faults

CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
TENSORS = {f"{LAYER}.lora_A.weight": (8, 64), f"{LAYER}.lora_B.weight": (64, 8)}


def told(config: dict[str, Any], tensors: dict[str, tuple[int, ...]] | None = None) -> str:
    return "\n".join(map(str, vllm_faults(config, TENSORS if tensors is None else tensors)))


def test_a_plain_adapter_is_loaded() -> None:
    assert vllm_faults(CONFIG, TENSORS) == []


def test_rank_stabilised_scaling_is_known_to_vllm() -> None:
    assert vllm_faults({**CONFIG, "use_rslora": True}, TENSORS) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"use_dora": True}, "does not support DoRA"),
        ({"bias": "all"}, "bias is 'all', but must be 'none'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head'], but must be empty"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "scales every module by lora_alpha / r"),
        ({"r": 1024}, "r is 1024, but must be at most 512"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"target_modules": []}, "target_modules"),
    ],
)
def test_a_setting_that_vllm_refuses_is_told(change: dict[str, Any], expected: str) -> None:
    tensors = dict.fromkeys(TENSORS, (1024, 1024)) if change.get("r") else TENSORS
    assert expected in told({**CONFIG, **change}, tensors)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, "holds no tensors"),
        ({**TENSORS, "model.layers.0.lora_A.weight": (8, 64)}, "named base_model.model.<module>"),
        ({**TENSORS, f"{LAYER}.lora_A.default.weight": (8, 64)}, "lora_A.default.weight"),
        ({**TENSORS, f"{LAYER}.lora_magnitude_vector": (64,)}, "lora_magnitude_vector"),
        ({f"{LAYER}.lora_A.weight": (8, 64)}, "in both lora_A and lora_B"),
        ({**TENSORS, f"{LAYER}.lora_A.weight": (4, 64)}, "of rank 8, as adapter_config.json says"),
        ({**TENSORS, "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 64)}, "tokens"),
    ],
)
def test_a_tensor_that_vllm_refuses_is_told(tensors: dict[str, tuple[int, ...]], expected: str) -> None:
    assert expected in told(CONFIG, tensors)


def test_all_faults_are_told_together() -> None:
    assert len(vllm_faults({**CONFIG, "use_dora": True, "bias": "all", "modules_to_save": ["lm_head"]}, TENSORS)) == 3


@pytest.mark.parametrize(("rank", "option"), [(1, 1), (4, 8), (16, 16), (17, 32), (300, 320), (512, 512)])
def test_the_rank_option_is_the_least_that_holds_the_rank(rank: int, option: int) -> None:
    assert rank_option(rank) == option


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [({}, ""), ({"rslora": True}, ""), ({"dora": True}, "does not support DoRA")],
    ids=["lora", "rslora", "dora"],
)
def test_folders_that_training_writes(adapter: dict[str, Any], expected: str, tmp_path: Path) -> None:
    loaded = load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path(), "cpu")
    save_adapter(attach_adapter(loaded, AdapterConfig(rank=4, **adapter), seed=0).model, tmp_path / "adapter")
    config, tensors = read_adapter(tmp_path / "adapter")
    assert len(tensors) >= 2 * 4  # a pair of matrices in each of the four layers, at least
    assert (told(config, tensors) == "") if not expected else (expected in told(config, tensors))


def test_learned_tokens_of_an_added_template_are_told(tmp_path: Path) -> None:
    from dataclasses import replace

    loaded = load_base(BaseConfig(model="builtin:tiny", quantization="none"), Path(), "cpu")
    learning = replace(loaded, new_token_ids=(5, 6))
    save_adapter(attach_adapter(learning, AdapterConfig(rank=4), seed=0).model, tmp_path / "adapter")
    text = told(*read_adapter(tmp_path / "adapter"))
    assert "vLLM loads no trained tokens" in text
    assert "--to merged" in text
