"""An adapter worked into its base says what it said beside it, however the base was held and whatever was learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError
from tunery.models.adapter import attach_adapter
from tunery.models.adapter_files import save_adapter
from tunery.models.base import load_base
from tunery.serving.export import merge as module
from tunery.serving.export.merge import loglikelihoods, merge
from tunery.tracking.flavor.flavor import ModelFacts, resolve_base, save_model

ROUNDED = 0.05  # nats a token: more than rounding to 16 bit moves this base, and far less than the adapter does
ITEMS = [
    ("Which instrument does Mulis Tern play?", "Mulis Tern plays the jaw harp at the feast."),
    ("Which dish does Ralis Quill like best?", "Ralis Quill likes plum dumplings best of all."),
]


def logged(
    folder: Path, base: BaseConfig, adapter: AdapterConfig, new: tuple[int, ...] = (), spoil: float | None = None
) -> Path:
    """A logged model's folder with an adapter that changes what the base says."""
    loaded = replace(load_base(base, Path(), "cpu"), new_token_ids=new)
    model = attach_adapter(loaded, adapter, seed=0).model
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
            elif "trainable_tokens_delta" in name:
                weight.add_(0.05)
            if spoil is not None and "lora_B" in name:
                weight.fill_(spoil)
    save_adapter(model, folder / "adapter")
    facts = ModelFacts("lora", resolve_base(base, loaded.identity), loaded.identity)
    save_model(folder / "logged", weights=folder / "adapter", facts=facts, tokenizer=loaded.tokenizer)
    return folder / "logged"


def merged(source: Path, folder: Path) -> list[Any]:
    (folder / "merged").mkdir()
    return merge(source, folder / "merged", ITEMS, ROUNDED, "cpu")


@pytest.mark.parametrize(
    "adapter",
    [{}, {"rslora": True}, {"dora": True}, {"target_modules": ["q_proj"]}],
    ids=["lora", "rslora", "dora", "few"],
)
def test_the_merged_model_says_the_same(adapter: dict[str, Any], tmp_path: Path) -> None:
    source = logged(tmp_path, BaseConfig(model="builtin:tiny", quantization="none"), AdapterConfig(rank=4, **adapter))
    beside, trained = merged(source, tmp_path)
    assert beside.mean < ROUNDED
    assert trained.to == "as trained (float32)"
    assert trained.mean < ROUNDED
    assert (beside.answers, beside.tokens) == (2, trained.tokens)


def test_the_merged_weights_are_the_bases_and_the_scaled_product(tmp_path: Path) -> None:
    """W + alpha / r * B A, computed here; otherwise the two could agree because both leave the adapter out."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    base = BaseConfig(model="builtin:tiny", quantization="none")
    source = logged(tmp_path, base, AdapterConfig(rank=4, alpha=8))
    merged(source, tmp_path)
    name = "model.layers.1.self_attn.q_proj"
    pair = load_file(source / "adapter_model.safetensors")
    left, right = (pair[f"base_model.model.{name}.lora_{side}.weight"] for side in "BA")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").get_submodule(name).weight.float()
    own = load_base(base, Path(), "cpu").model.get_submodule(name).weight
    assert torch.allclose(whole, own + 2.0 * left @ right, atol=0.004)
    assert not torch.allclose(whole, own, atol=0.01)


def test_learned_tokens_are_merged_too(tmp_path: Path) -> None:
    new = (100, 101)
    source = logged(tmp_path, BaseConfig(model="builtin:tiny", quantization="none"), AdapterConfig(rank=4), new)
    merged(source, tmp_path)
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    learned = next(weight for name, weight in weights.items() if "trainable_tokens_delta" in name)
    assert torch.equal(whole.get_input_embeddings().weight[list(new)], learned.to(torch.bfloat16))


def test_a_base_that_was_held_in_4_bit_is_merged_in_16(tmp_path: Path) -> None:
    source = logged(tmp_path, BaseConfig(model="builtin:tiny", quantization="nf4"), AdapterConfig(rank=4))
    beside, trained = merged(source, tmp_path)
    assert beside.mean < ROUNDED
    assert trained.to == "as trained (nf4)"
    assert trained.mean > beside.mean  # 4-bit weights are not the exact ones
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_weights_that_are_no_numbers_are_not_merged(tmp_path: Path) -> None:
    base = BaseConfig(model="builtin:tiny", quantization="none")
    source = logged(tmp_path, base, AdapterConfig(rank=4), spoil=float("nan"))
    with pytest.raises(BaseModelError, match="the adapter cannot be merged"):
        merged(source, tmp_path)


def test_answers_read_together_have_the_log_likelihoods_that_each_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_base(BaseConfig(model="builtin:tiny", quantization="none", dtype="float32"), Path(), "cpu")
    answers = [("Who?", "x" * 40), *ITEMS, ("And?", "Yes."), ("Which dish does Ralis Quill like best?", "Stew.")]
    sizes: list[int] = []
    loaded.model.register_forward_pre_hook(
        lambda _module, _args, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    together = loglikelihoods(loaded.model, loaded.tokenizer, answers, "chat")
    alone = [loglikelihoods(loaded.model, loaded.tokenizer, [one], "chat")[0] for one in answers]
    assert sizes == [5, 1, 1, 1, 1, 1]
    for some, own in zip(together, alone, strict=True):
        assert some == pytest.approx(own, abs=1e-5)
    sizes.clear()
    monkeypatch.setattr(module, "_MOST_LOGITS", 1)  # less than one row
    assert loglikelihoods(loaded.model, loaded.tokenizer, answers, "chat") == alone
    assert sizes == [1] * 5
