"""Adapters of other tools: over which base each is put, and that its base is scored as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.models.conftest import write_llama

from tunery.errors import BaseModelError
from tunery.runs.cache import Resident
from tunery.runs.resolve_model import EvaluatedModel, load_evaluated_model
from tunery.tracking.store import Store

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61]])
ASK = [("evaluation.tasks", "[world_facts]"), ("data.template", "plain")]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def save(base: Path, folder: Path, *, added: int = 0, recorded: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An adapter as another tool saves it, and the model that it was saved from."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    inner = plain(base)
    if added:
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens([f"<|new{number}|>" for number in range(added)])
        inner.resize_token_embeddings(len(tokenizer))
        tokenizer.save_pretrained(folder)
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(inner, LoraConfig(**lora))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape) * 0.05)
    model.save_pretrained(str(folder))
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **(recorded or {})}))
    return model


def found(folder: Path, store: Store, *more: tuple[str, str]) -> EvaluatedModel:
    return load_evaluated_model(str(folder), None, [*ASK, *more], store, Resident())


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [7, 8]},
        {"layer_replication": [(0, 2), (0, 2)]},
    ],
)
def test_an_adapter_that_changes_the_base_is_held_against_the_base_as_it_is(
    llama: Path, tmp_path: Path, store: Store, settings: dict[str, Any]
) -> None:
    trained = save(llama, tmp_path / "adapter", **settings)
    it = found(tmp_path / "adapter", store)
    assert torch.equal(logits(it.base.model), logits(plain(llama)))
    assert torch.allclose(logits(it.model), logits(trained), atol=1e-4)
    assert "the base is scored in a second copy" in it.notes[0]


def test_a_plain_adapter_needs_no_second_base(llama: Path, tmp_path: Path, store: Store) -> None:
    save(llama, tmp_path / "adapter")
    it = found(tmp_path / "adapter", store)
    assert it.model.get_base_model() is it.base.model
    assert it.notes == ()


ELSEWHERE = [
    {"base_model_name_or_path": "/home/someone/models/llama"},
    {"base_model_name_or_path": "unsloth/llama-bnb-4bit"},
    {"base_model_name_or_path": "unsloth/llama-bnb-4bit", "revision": "unsloth"},
    {"base_model_name_or_path": "acme/llama", "revision": "c0ffee"},
]


@pytest.mark.parametrize("recorded", ELSEWHERE)
def test_a_base_that_is_named_by_hand_is_taken_and_told(
    llama: Path, tmp_path: Path, store: Store, recorded: dict[str, str]
) -> None:
    trained = save(llama, tmp_path / "adapter", recorded=recorded)
    it = found(tmp_path / "adapter", store, ("base.model", str(llama)))
    assert torch.allclose(logits(it.model), logits(trained), atol=1e-4)
    named = recorded["base_model_name_or_path"]
    assert it.notes[0].startswith(f"the adapter names another base, {named} at ")
    assert it.notes[0].endswith(f"{llama} was given by hand")


@pytest.mark.parametrize("recorded", ELSEWHERE)
def test_a_base_that_is_not_here_says_which_file_names_it_and_what_to_give(
    llama: Path, tmp_path: Path, store: Store, recorded: dict[str, str]
) -> None:
    save(llama, tmp_path / "adapter", recorded=recorded)
    with pytest.raises(BaseModelError, match=r"adapter_config\.json names it\. If it .* give --base\.model\."):
        found(tmp_path / "adapter", store)


def test_a_revision_that_is_none_is_replaced_by_hand(llama: Path, tmp_path: Path, store: Store) -> None:
    save(llama, tmp_path / "adapter", recorded={"revision": "unsloth"})
    with pytest.raises(BaseModelError, match=rf"trained on: {llama} at unsloth"):
        found(tmp_path / "adapter", store)
    it = found(tmp_path / "adapter", store, ("base.revision", "main"))
    assert it.notes[0].startswith(f"the adapter names another base, {llama} at unsloth: ")


def test_a_projects_base_under_another_name_says_how_to_take_it(llama: Path, tmp_path: Path, store: Store) -> None:
    save(llama, tmp_path / "adapter", recorded={"base_model_name_or_path": "acme/llama"})
    (tmp_path / "project.yaml").write_text(
        f"name: p\nbase: {{model: {llama}, quantization: none}}\n"
        "data: {train: [{source: none}], template: plain}\nevaluation: {tasks: [world_facts]}\n"
    )
    with pytest.raises(BaseModelError, match=r"trained on: acme/llama at .* another name, say so: give --base\.model"):
        load_evaluated_model(str(tmp_path / "adapter"), str(tmp_path), [], store, Resident())


def test_a_base_whose_weights_are_known_to_be_others_is_refused_by_hand_too(
    llama: Path, tmp_path: Path, store: Store
) -> None:
    save(llama, tmp_path / "adapter", recorded={"revision": f"sha256:{'0' * 64}"})
    with pytest.raises(BaseModelError, match="with other weights at sha256:000"):
        found(tmp_path / "adapter", store, ("base.model", str(llama)))


def test_an_adapter_with_added_tokens_gets_its_own_rows_and_tokenizer(
    llama: Path, tmp_path: Path, store: Store
) -> None:
    trained = save(llama, tmp_path / "adapter", added=3, modules_to_save=["embed_tokens", "lm_head"])
    it = found(tmp_path / "adapter", store)
    assert torch.allclose(logits(it.model), logits(trained), atol=1e-4)
    assert len(it.tokenizer) == len(it.base.tokenizer) + 3
    assert torch.equal(logits(it.base.model), logits(plain(llama)))
    assert "3 added tokens" in it.notes[1]


def test_added_tokens_that_nothing_tells_of_are_refused_with_the_rows(
    llama: Path, tmp_path: Path, store: Store
) -> None:
    trained = save(llama, tmp_path / "adapter", added=3, modules_to_save=["embed_tokens", "lm_head"])
    for file in (tmp_path / "adapter").glob("*token*"):
        file.unlink()
    rows = trained.get_input_embeddings().weight.shape[0]
    with pytest.raises(BaseModelError, match=rf"its embeddings have {rows} rows, those of .* {rows - 3}: .* tokenizer"):
        found(tmp_path / "adapter", store)


def test_an_adapter_of_another_size_is_refused_with_the_reason(llama: Path, tmp_path: Path, store: Store) -> None:
    save(llama, tmp_path / "adapter", recorded={"r": 8})
    with pytest.raises(BaseModelError, match=r"does not fit .*state_dict for PeftModelForCausalLM: size mismatch for"):
        found(tmp_path / "adapter", store)
