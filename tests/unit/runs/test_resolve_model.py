"""Adapters of other tools: over which base each is put, and that its base is scored as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.unit.models.conftest import write_llama

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, ConfigError
from tunery.records.runs import BaseIdentity
from tunery.runs.cache import Resident
from tunery.runs.resolve_model import EvaluatedModel, _laid_over, as_trained, load_evaluated_model
from tunery.tracking.flavor.flavor import ModelFacts
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


def test_an_adapter_whose_weights_were_cut_is_refused_with_a_sentence(
    llama: Path, tmp_path: Path, store: Store
) -> None:
    save(llama, tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match=r"adapter_model\.safetensors is damaged \(.*\)\. Get it anew\."):
        found(tmp_path / "adapter", store)


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


OFFLOAD = ("base.offload.gpu", "10 GiB")


@pytest.fixture
def offloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose card, which "cpu:0" stands for, has room for one of the two layers."""
    card = ["model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head"]
    places = {**dict.fromkeys(card, "cpu:0"), "model.layers.1": "cpu"}
    for module in ("tunery.estimation.offload", "tunery.tracking.flavor.rebuild"):
        monkeypatch.setattr(f"{module}.placement", lambda base, *_: places if base.offload else None)
    monkeypatch.setattr("tunery.estimation.offload.check_offload", lambda *_: None)


@pytest.mark.usefixtures("offloaded")
def test_an_adapter_and_its_base_are_scored_through_offloaded_layers(llama: Path, tmp_path: Path, store: Store) -> None:
    trained = save(llama, tmp_path / "adapter")
    it = found(tmp_path / "adapter", store, OFFLOAD)
    assert it.base.offloaded == ("model.layers.1",)
    assert "layer model.layers.1 lies unquantised in the CPU's memory" in it.notes[0]
    assert torch.allclose(logits(it.model), logits(trained), atol=1e-4)
    with it.model.disable_adapter():
        assert torch.allclose(logits(it.model), logits(plain(llama)), atol=1e-4)


@pytest.mark.usefixtures("offloaded")
def test_an_adapter_that_needs_a_second_base_is_refused_offloaded_layers(
    llama: Path, tmp_path: Path, store: Store
) -> None:
    save(llama, tmp_path / "adapter", init_lora_weights="pissa")
    with pytest.raises(ConfigError, match=r"base\.offload is .* two copies do not fit where one does not"):
        found(tmp_path / "adapter", store, OFFLOAD)


@pytest.mark.usefixtures("offloaded")
def test_a_bare_model_is_scored_through_offloaded_layers(llama: Path, store: Store) -> None:
    it = load_evaluated_model(str(llama), None, [*ASK, OFFLOAD], store, Resident())
    assert it.base.offloaded == ("model.layers.1",)
    assert torch.allclose(logits(it.model), logits(plain(llama)), atol=1e-4)


def test_a_trained_model_may_be_offloaded_and_its_base_is_else_as_it_was(tmp_path: Path) -> None:
    tree = {"name": "p", "base": {"model": "acme/base"}, "data": {"train": [{"source": "none"}]}}
    laid = _laid_over(tree, "models:/p/1", tmp_path, None, [OFFLOAD])
    assert laid.base.offload is not None
    assert laid.base.offload.gpu == "10 GiB"
    assert laid.base.model_copy(update={"offload": None}) == _laid_over(tree, "models:/p/1", tmp_path, None, []).base
    with pytest.raises(ConfigError, match=r"--base\.dtype is .*with which the model was trained"):
        _laid_over(tree, "models:/p/1", tmp_path, None, [OFFLOAD, ("base.dtype", "float32")])


def test_a_promotion_is_refused_offloaded_layers(tmp_path: Path) -> None:
    tree = {"name": "p", "base": {"model": "acme/base"}, "data": {"train": [{"source": "none"}]}}
    with pytest.raises(ConfigError, match="unset except for tunery evaluate: a promotion measures"):
        as_trained(tree, "models:/p/1", tmp_path, None, [OFFLOAD])


@pytest.mark.usefixtures("offloaded")
def test_a_model_of_which_all_weights_were_trained_is_refused_offloaded_layers(tmp_path: Path, store: Store) -> None:
    identity = BaseIdentity("acme/base", "c0ffee", "none", "float32", "float32", "own")
    facts = ModelFacts("full", BaseConfig(model="acme/base", quantization="none"), identity, template="plain")
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"tunery": facts.section()}}))
    with pytest.raises(ConfigError, match="unset except for tunery evaluate: all weights were trained, and two models"):
        found(tmp_path, store, OFFLOAD)
