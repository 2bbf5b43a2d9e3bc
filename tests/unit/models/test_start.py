"""An adapter that training begins with is put on exactly, or refused with both values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.models.test_adapter import disturb, load, logprobs

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError
from tunery.models.adapter import attach_adapter
from tunery.models.adapter_files import load_adapter, save_adapter
from tunery.models.start import StartAdapter, base_faults, local_start, read_start, shape_faults, target_faults
from tunery.models.targets import matched_modules

OWN = AdapterConfig(rank=4, alpha=8, target_modules=["q_proj", "v_proj"])


@pytest.fixture(scope="module")
def folder(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that another training left: with rows of its own for the two tokens of ChatML."""
    model = attach_adapter(load(llama), OWN, seed=0).model
    disturb(model)
    return save_adapter(model, tmp_path_factory.mktemp("start") / "adapter")


@pytest.fixture(scope="module")
def start(folder: Path, llama: Path) -> StartAdapter:
    return read_start(folder, "adapter", BaseConfig(model=str(llama), quantization="none"))


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_training_begins_with_its_weights_and_keeps_one_adapter(
    llama: Path, folder: Path, start: StartAdapter, tmp_path: Path, quantization: str
) -> None:
    expected = logprobs(load_adapter(load(llama, quantization), folder))
    other_dropout = OWN.model_copy(update={"dropout": 0.3})
    model = attach_adapter(load(llama, quantization), other_dropout, seed=7, start=start).model
    assert torch.equal(logprobs(model), expected)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    assert list(model.peft_config) == ["default"]
    assert model.peft_config["default"].lora_dropout == 0.3
    saved, given = (
        load_file(place / "adapter_model.safetensors") for place in (save_adapter(model, tmp_path / "a"), folder)
    )
    assert saved.keys() == given.keys()
    assert all(torch.equal(saved[name], given[name]) for name in given)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"rank": 8},
            "adapter.rank is 8, but must be 4, the rank of the adapter that training begins with. Set adapter.rank: 4.",
        ),
        ({"alpha": 16}, "adapter.alpha is 16, but must be 8"),
        ({"dora": True}, "adapter.dora is True, but must be false"),
        ({"rslora": True}, "adapter.rslora is True, but must be false"),
        ({"target_parameters": ["experts.up"]}, "adapter.target_parameters is ['experts.up'], but must be []"),
    ],
)
def test_settings_of_another_shape_are_refused_with_both_values(
    start: StartAdapter, change: dict[str, Any], told: str
) -> None:
    (fault,) = shape_faults(OWN.model_copy(update=change), start)
    assert told in str(fault)


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ({"init_lora_weights": "olora"}, "init_lora_weights: olora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias: all"),
        ({"peft_type": "LOHA"}, "peft_type: LOHA"),
        ({"rank_pattern": {"q_proj": 8}}, "one rank for all modules"),
        ({"alora_invocation_tokens": [1, 2]}, "an adapter that is on at every token"),
    ],
)
def test_an_adapter_that_the_settings_cannot_describe_is_refused_with_the_reason(
    start: StartAdapter, recorded: dict[str, Any], told: str
) -> None:
    (fault,) = shape_faults(OWN, dataclasses.replace(start, recorded={**start.recorded, **recorded}))
    assert told in str(fault)


def test_its_own_shape_has_no_fault(start: StartAdapter, llama: Path) -> None:
    wanted = matched_modules(load(llama).model, OWN.target_modules)
    assert [*shape_faults(OWN, start), *target_faults(OWN, wanted, start)] == []


def test_other_modules_are_refused_by_name(start: StartAdapter, llama: Path) -> None:
    wanted = matched_modules(load(llama).model, ["q_proj", "layers.1.self_attn.o_proj"])
    (fault,) = target_faults(OWN, wanted, start)
    assert "without model.layers.1.self_attn.o_proj and with model.layers.0.self_attn.v_proj" in str(fault)
    assert "Set adapter.target_modules: [q_proj, v_proj]." in str(fault)


@pytest.mark.parametrize("rank", [4, 8])
def test_weights_of_another_shape_or_too_few_leave_the_base_as_it_was(
    start: StartAdapter, llama: Path, rank: int
) -> None:
    loaded, expected = load(llama), logprobs(load(llama).model)
    fewer = {name: weight for name, weight in start.weights.items() if "layers.1" not in name}
    other = dataclasses.replace(start, weights=fewer) if rank == 4 else start
    with pytest.raises(BaseModelError, match=r"lora_A.weight.* differ"):
        attach_adapter(loaded, OWN.model_copy(update={"rank": rank}), seed=0, start=other)
    assert torch.equal(logprobs(loaded.model), expected)
    assert not hasattr(loaded.model, "peft_config")


def test_another_base_is_refused(start: StartAdapter, llama: Path) -> None:
    revision = load(llama).identity.revision
    base = BaseConfig(model=str(llama), quantization="none")
    assert list(base_faults(base, revision, start)) == []
    (fault,) = base_faults(base, "sha256:other", start)
    assert "the base of the adapter that training begins with" in str(fault)
    assert revision in str(fault)


def test_another_model_is_named_and_only_the_same_one_has_other_weights(start: StartAdapter, llama: Path) -> None:
    identity = dataclasses.replace(load(llama).identity, revision="sha256:first")
    known = dataclasses.replace(start, identity=identity)
    (same,) = base_faults(BaseConfig(model=str(llama), quantization=identity.quantization), "sha256:second", known)
    assert f"{llama} with other weights at sha256:first" in str(same)
    (other,) = base_faults(BaseConfig(model="acme/other", quantization=identity.quantization), "sha256:second", known)
    assert "base.model is 'acme/other at sha256:second'" in str(other)
    assert f"begins with: {llama} at sha256:first" in str(other)


def test_another_quantisation_is_refused(start: StartAdapter, llama: Path) -> None:
    identity = load(llama, "nf4").identity
    known = dataclasses.replace(start, identity=identity)
    for base, key in (
        (BaseConfig(model=str(llama), quantization="none"), "base.quantization is 'none', but must be nf4"),
        (
            BaseConfig(model=str(llama), double_quantization=False),
            "base.double_quantization is False, but must be True",
        ),
    ):
        (fault,) = base_faults(base, identity.revision, known)
        assert key in str(fault)


def test_a_reference_is_no_folder_and_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert local_start("models:/x@champion", tmp_path) is None
    assert local_start("runs:/abc", tmp_path) is None
    with pytest.raises(BaseModelError, match=r"adapter.start is 'nowhere', but must be models:/name@alias"):
        local_start("nowhere", tmp_path)


def test_a_folder_without_an_adapter_is_told(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(BaseModelError, match=r"adapter_config\.json is missing"):
        read_start(tmp_path, "adapter", BaseConfig(model=str(llama)))
