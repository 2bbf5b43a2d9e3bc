from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError, ConfigError, StorageError
from tunery.models.adapter import attach_adapter, detach_adapter
from tunery.models.adapter_files import damage, load_adapter, save_adapter, write_folder
from tunery.models.base import LoadedBase, load_base
from tunery.models.targets import linear_modules, resolve_targets

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61], [7, 8, 100, 41, 2, 17]])


def load(folder: Path, quantization: str = "none") -> LoadedBase:
    return load_base(BaseConfig(model=str(folder), quantization=quantization), Path(), "cpu")  # type: ignore[arg-type]


def logprobs(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(TOKENS).logits.log_softmax(-1)


def disturb(model: Any) -> None:
    """Stand-in for training: every trainable weight moves."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def test_all_linear_takes_every_projection_and_not_the_head(llama: Path) -> None:
    facts = attach_adapter(load(llama), AdapterConfig(rank=4), seed=0).facts
    adapted = {name.rpartition(".")[2] for name in facts.modules if "token_adapter" not in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert "lm_head" not in facts.modules


def test_the_trainable_count_is_the_formulas(llama: Path) -> None:
    facts = attach_adapter(load(llama), AdapterConfig(rank=4), seed=0).facts
    shapes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    lora = 2 * sum(4 * (inputs + outputs) for inputs, outputs in shapes)
    new_rows = 2 * 2 * 64  # two tokens in two matrices
    assert facts.trainable_parameters == lora + new_rows


def test_new_rows_of_a_head_with_a_bias_are_refused(llama: Path) -> None:
    loaded = load(llama)  # without a template of its own: two tokens are added
    loaded.model.lm_head = nn.Linear(64, len(loaded.tokenizer), bias=True)
    with pytest.raises(ConfigError, match="this base's output head has a bias"):
        attach_adapter(loaded, AdapterConfig(), seed=0)


class _Block(nn.Module):
    """A mixture-of-experts block of the older kind: the router is a linear module."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.gate_proj = nn.Linear(8, 16)
        self.shared_expert_gate = nn.Linear(8, 1)
        self.dense = nn.ModuleDict({"gate": nn.Linear(8, 8)})


class _Old(nn.Module):
    name_or_path = "old-moe"

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = _Block(), nn.Linear(8, 30)

    @property
    def config(self) -> Any:
        text = type("Text", (), {"num_local_experts": 4})()
        return type("Config", (), {"get_text_config": lambda self: text})()

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def test_a_router_is_known_by_its_outputs_and_a_gate_projection_is_none() -> None:
    assert set(linear_modules(_Old())) == {"block.gate_proj", "block.dense.gate"}


def test_all_linear_names_modules_in_full_where_a_short_name_would_take_the_router_too() -> None:
    assert resolve_targets(_Old(), "all-linear") == ["block.dense.gate", "gate_proj"]


@pytest.mark.parametrize("name", ["block.gate", "head", "gate"])
def test_a_router_or_the_head_by_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no router and not the output head"):
        resolve_targets(_Old(), [name])


def test_every_name_that_matches_nothing_is_told_with_the_nearest(llama: Path) -> None:
    with pytest.raises(ConfigError, match="2 faults") as caught:
        attach_adapter(load(llama), AdapterConfig(target_modules=["q_prj", "v_proj", "dwon_proj"]), seed=0)
    assert "Nearest: q_proj" in str(caught.value)
    assert "Nearest: down_proj" in str(caught.value)


def test_the_same_seed_draws_the_same_first_weights(llama: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        model = attach_adapter(load(llama), AdapterConfig(), seed=seed).model
        return torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_A" in n])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_an_adapter_over_half_precision_weights_is_in_fp32(llama: Path) -> None:
    base = BaseConfig(model=str(llama), quantization="none", dtype="bfloat16")
    model = attach_adapter(load_base(base, Path(), "cpu"), AdapterConfig(), seed=0).model
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    "variant", [{}, {"dora": True}, {"rslora": True}, {"target_modules": ["q_proj", "layers.1.mlp.up_proj"]}]
)
def test_a_reloaded_adapter_scores_exactly_as_before(
    llama: Path, tmp_path: Path, quantization: str, variant: dict[str, Any]
) -> None:
    model = attach_adapter(load(llama, quantization), AdapterConfig(rank=4, **variant), seed=0).model
    disturb(model)
    expected = logprobs(model)
    save_adapter(model, tmp_path / "adapter")
    assert torch.equal(logprobs(load_adapter(load(llama, quantization), tmp_path / "adapter")), expected)


def test_plain_peft_reads_the_same_folder(llama: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    model = attach_adapter(load(llama, "nf4"), AdapterConfig(), seed=0).model
    disturb(model)
    expected = logprobs(model)
    save_adapter(model, tmp_path / "adapter")
    again = PeftModel.from_pretrained(load(llama, "nf4").model, str(tmp_path / "adapter"))
    assert torch.equal(logprobs(again), expected)


def test_a_switched_adapter_scores_exactly_as_one_loaded_alone(llama: Path, tmp_path: Path) -> None:
    for name, rank in (("first", 4), ("second", 8)):
        model = attach_adapter(load(llama, "nf4"), AdapterConfig(rank=rank), seed=rank).model
        disturb(model)
        save_adapter(model, tmp_path / name)
    alone = {name: logprobs(load_adapter(load(llama, "nf4"), tmp_path / name)) for name in ("first", "second")}
    both = load_adapter(load(llama, "nf4"), tmp_path / "first")
    both.load_adapter(str(tmp_path / "second"), "second")
    both.set_adapter("second")
    assert torch.equal(logprobs(both), alone["second"])
    both.set_adapter("default")
    assert torch.equal(logprobs(both), alone["first"])


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_detached_base_scores_as_before_and_takes_another_adapter(llama: Path, quantization: str) -> None:
    loaded = load(llama, quantization)
    expected = logprobs(loaded.model)
    model = attach_adapter(loaded, AdapterConfig(), seed=0).model
    disturb(model)
    base = detach_adapter(model)
    assert base is loaded.model
    assert torch.equal(logprobs(base), expected)
    fresh = attach_adapter(load(llama, quantization), AdapterConfig(rank=8), seed=5)
    again = attach_adapter(loaded, AdapterConfig(rank=8), seed=5)
    assert again.facts == fresh.facts
    assert torch.equal(logprobs(again.model), logprobs(fresh.model))


def test_an_adapter_of_other_weights_is_refused(llama: Path, tied_llama: Path, tmp_path: Path) -> None:
    save_adapter(attach_adapter(load(llama), AdapterConfig(), seed=0).model, tmp_path / "adapter")
    with pytest.raises(BaseModelError, match="the base that the adapter was trained on"):
        load_adapter(load(tied_llama), tmp_path / "adapter")


def test_an_adapter_follows_its_weights_to_another_folder(llama: Path, tmp_path: Path) -> None:
    save_adapter(attach_adapter(load(llama), AdapterConfig(), seed=0).model, tmp_path / "adapter")
    shutil.copytree(llama, tmp_path / "moved")
    load_adapter(load(tmp_path / "moved"), tmp_path / "adapter")


def test_a_pickled_adapter_is_refused(llama: Path, tmp_path: Path) -> None:
    save_adapter(attach_adapter(load(llama), AdapterConfig(), seed=0).model, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(BaseModelError, match="a pickle"):
        load_adapter(load(llama), tmp_path / "adapter")


def test_a_folder_without_an_adapter_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"adapter_config\.json is missing"):
        load_adapter(load(llama), tmp_path)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, model: Any, error: Exception) -> None:
    def save_pretrained(place: str, **_: Any) -> None:
        (Path(place) / "half").write_text("torn")
        raise error

    monkeypatch.setattr(model, "save_pretrained", save_pretrained)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_says_so_and_keeps_what_was_there(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model = attach_adapter(load(llama), AdapterConfig(), seed=0).model
    save_adapter(model, tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    fill_the_disk(monkeypatch, model, error)
    with pytest.raises(StorageError, match=r"the disk is full.* run the same command"):
        save_adapter(model, tmp_path / "adapter")
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"], "no torn files are left behind"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_truly_full_file_system_says_so(tmp_path: Path) -> None:
    """/dev/full answers every write with ENOSPC: the real error of the real system call."""

    def write(place: Path) -> None:
        (place / "weights").symlink_to("/dev/full")
        (place / "weights").write_bytes(b"0" * 65536)

    with pytest.raises(StorageError, match="the disk is full"):
        write_folder(tmp_path / "adapter", write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_copying_to_a_full_file_system_says_so(tmp_path: Path) -> None:
    """shutil.copytree collects what each file met in an error without a number."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "weights").write_bytes(b"0" * 65536)

    def write(place: Path) -> None:
        (place / "weights").symlink_to("/dev/full")
        shutil.copytree(tmp_path / "from", place, dirs_exist_ok=True)

    with pytest.raises(StorageError, match="the disk is full"):
        write_folder(tmp_path / "adapter", write)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_a_file_that_was_cut_is_found(llama: Path, tmp_path: Path, name: str, part: float) -> None:
    loaded = load(llama)
    folder = save_adapter(attach_adapter(loaded, AdapterConfig(rank=2), seed=0).model, tmp_path / "adapter")
    assert damage(folder) is None
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * part)])
    assert damage(folder) is not None
    with pytest.raises(BaseModelError, match=f"{name} (is damaged|cannot be read)"):
        load_adapter(load(llama), folder)


def test_full_fine_tuning_trains_every_weight_and_is_saved_as_a_base(llama: Path, tmp_path: Path) -> None:
    loaded = load(llama)
    attached = attach_adapter(loaded, AdapterConfig(method="full"), seed=0)
    assert attached.facts.trainable_parameters == attached.facts.total_parameters
    disturb(attached.model)
    expected = logprobs(attached.model)
    save_adapter(attached.model, tmp_path / "whole")
    loaded.tokenizer.save_pretrained(tmp_path / "whole")
    assert torch.equal(logprobs(load(tmp_path / "whole").model), expected)


def test_full_fine_tuning_of_quantised_weights_is_refused(llama: Path) -> None:
    with pytest.raises(ConfigError, match=r"base\.quantization is 'nf4'"):
        attach_adapter(load(llama, "nf4"), AdapterConfig(method="full"), seed=0)
