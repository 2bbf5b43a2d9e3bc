"""What a model's files say: pickles are found by what they are, stored bits by the config."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tunery.errors import BaseModelError
from tunery.models.files import check_stored_bits, pickled_files


def test_an_adapter_folder_as_it_should_be_holds_none(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    (tmp_path / "empty").write_bytes(b"")
    assert pickled_files(tmp_path) == []


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 66176])
def test_a_safetensors_file_whose_first_bytes_read_as_a_pickles_is_none(tmp_path: Path, length: int) -> None:
    """Its first eight bytes are the length of its header: 640 is 80 02, where a pickle of protocol 2 begins."""
    header = b"{}".ljust(length)
    (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + header)
    assert (tmp_path / "model.safetensors").read_bytes()[0] == 0x80
    assert pickled_files(tmp_path) == []


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_another_name_is_found(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights.safetensors").write_bytes(pickle.dumps({"a": 1}, protocol))
    assert pickled_files(tmp_path) == ["inner/weights.safetensors"]


def test_what_torch_saves_is_found_under_any_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "notes.txt")
    assert pickled_files(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("name", ["training_args.bin", "model.pt", "model.pkl", "model.pickle", "model.joblib"])
def test_a_name_that_means_a_pickle_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"0")
    assert pickled_files(tmp_path) == [name]


FOUR, EIGHT = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}


@pytest.mark.parametrize(("stored", "held"), [(FOUR, "nf4"), (EIGHT, "int8"), ({"load_in_4bit": True}, "fp4")])
def test_a_copy_that_is_stored_in_few_bits_is_not_taken_for_another(stored: dict[str, object], held: str) -> None:
    """transformers would load it in these bits, and its scores would stand for an unquantised base."""
    with pytest.raises(BaseModelError, match=rf"base\.quantization is 'none', but must be {held} for this copy"):
        check_stored_bits("unsloth/llama-bnb-4bit", {"quantization_config": stored}, "none")


@pytest.mark.parametrize(
    ("config", "quantization"),
    [({"quantization_config": FOUR}, "nf4"), ({"quantization_config": EIGHT}, "int8"), ({}, "none"), ({}, "nf4")],
)
def test_bits_that_agree_are_taken(config: dict[str, object], quantization: str) -> None:
    check_stored_bits("acme/llama", config, quantization)
