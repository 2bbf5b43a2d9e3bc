from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import ConfigError
from tunery.models.adapter import attach_adapter
from tunery.models.base import LoadedBase, load_base, load_tokenizer

CHAT = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ona."}]


def load(folder: Path, **changes: Any) -> LoadedBase:
    return load_base(BaseConfig(model=str(folder), **{"quantization": "none", **changes}), folder, "cpu")


def test_a_base_without_a_template_gets_chatml_and_says_so(llama: Path) -> None:
    loaded = load(llama)
    text = loaded.tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert text == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nOna.<|im_end|>\n"
    assert loaded.identity.chat_template == "added ChatML"
    assert any("added ChatML" in note for note in loaded.notes)


def test_each_marker_is_one_token(llama: Path) -> None:
    loaded = load(llama)
    assert [loaded.tokenizer(marker).input_ids for marker in ("<|im_start|>", "<|im_end|>")] == [
        [token] for token in loaded.new_token_ids
    ]


def test_the_assistant_mask_covers_the_answer_and_its_end(llama: Path) -> None:
    tokenizer = load(llama).tokenizer
    encoded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, kept in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if kept]
    assert tokenizer.decode(learned) == "Ona.<|im_end|>"


def test_new_rows_start_at_the_mean_of_the_old_ones_in_both_matrices(llama: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(llama / "model.safetensors")
    loaded = load(llama)
    for weight, name in (
        (loaded.model.get_input_embeddings().weight, "model.embed_tokens.weight"),
        (loaded.model.get_output_embeddings().weight, "lm_head.weight"),
    ):
        for token in loaded.new_token_ids:
            torch.testing.assert_close(weight[token], stored[name].mean(dim=0))
        torch.testing.assert_close(weight[: len(stored[name])], stored[name])


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_gradients_reach_the_new_rows_of_both_matrices_and_no_others(llama: Path, quantization: str) -> None:
    loaded = load(llama, quantization=quantization)
    model = attach_adapter(loaded, AdapterConfig(), seed=0).model
    start, end = loaded.new_token_ids
    tokens = torch.tensor([[start, 40, end, 50, end]])
    model(input_ids=tokens, labels=tokens).loss.backward()
    deltas = {name: p for name, p in model.named_parameters() if "trainable_tokens_delta" in name}
    assert len(deltas) == 2
    assert all(p.shape == (2, 64) and p.grad.abs().sum(dim=1).min() > 0 for p in deltas.values())
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lora_" not in n and n not in deltas)


def test_tied_matrices_share_one_set_of_new_rows(tied_llama: Path) -> None:
    loaded = load(tied_llama)
    model = attach_adapter(loaded, AdapterConfig(), seed=0).model
    deltas = [p for name, p in model.named_parameters() if "trainable_tokens_delta" in name]
    assert len(deltas) == 1
    tokens = torch.tensor([[loaded.new_token_ids[0], 40, loaded.new_token_ids[1]]])
    before = model(tokens).logits[..., loaded.new_token_ids[1]].clone()
    with torch.no_grad():
        deltas[0].add_(1.0)
    assert not torch.allclose(model(tokens).logits[..., loaded.new_token_ids[1]], before)


def test_generation_stops_at_the_end_of_a_turn(llama: Path) -> None:
    loaded = load(llama)
    end = loaded.new_token_ids[1]
    with torch.no_grad():  # an output head that says <|im_end|> whatever comes before
        head = loaded.model.get_output_embeddings()
        head.weight.zero_()
        loaded.model.model.norm.weight.fill_(1.0)
        hidden = loaded.model.model(torch.tensor([[40, 50]])).last_hidden_state[0, -1]
        head.weight[end] = hidden
    written = loaded.model.generate(torch.tensor([[40, 50]]), max_new_tokens=8, do_sample=False)[0, 2:]
    assert written.tolist() == [end]


def test_the_old_end_token_still_ends_a_generation(llama: Path) -> None:
    loaded = load(llama)
    old = loaded.tokenizer.convert_tokens_to_ids("</s>")
    assert set(loaded.model.generation_config.eos_token_id) == {loaded.new_token_ids[1], old}


def test_markers_that_the_base_already_knows_are_not_added_again(llama: Path, tmp_path: Path) -> None:
    known = load(llama)
    known.model.save_pretrained(tmp_path)
    known.tokenizer.chat_template = None
    known.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.new_token_ids == ()
    assert again.identity.chat_template == "added ChatML"
    assert len(again.tokenizer) == len(known.tokenizer)


def test_a_template_of_its_own_is_left_alone(llama: Path, tmp_path: Path) -> None:
    own = load(llama)
    own.tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    own.model.save_pretrained(tmp_path)
    own.tokenizer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.identity.chat_template == "own"
    assert loaded.tokenizer.apply_chat_template(CHAT, tokenize=False) == "[Who?][Ona.]"


def test_plain_rows_need_no_template(llama: Path) -> None:
    loaded = load_base(BaseConfig(model=str(llama), quantization="none"), llama, "cpu", chat=False)
    assert loaded.identity.chat_template == "none"
    assert loaded.new_token_ids == ()
    assert loaded.tokenizer.chat_template is None


def test_a_named_template_file_is_used_and_recorded(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{% for m in messages %}<{{ m['role'] }}>{% endfor %}")
    base = BaseConfig(model=str(llama), quantization="none", chat_template="own.jinja")
    loaded = load_base(base, tmp_path, "cpu")
    assert loaded.identity.chat_template == "own.jinja"
    assert loaded.tokenizer.apply_chat_template(CHAT, tokenize=False) == "<user><assistant>"


def test_a_template_file_that_is_not_there_is_a_fault_of_its_key(llama: Path) -> None:
    with pytest.raises(ConfigError, match=r"base\.chat_template is 'missing\.jinja'"):
        load(llama, chat_template="missing.jinja")


def test_a_tokenizer_without_padding_gets_some_and_says_which(llama: Path, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(llama, tmp_path / "m")
    described = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    described["pad_token"] = None
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(described))
    loaded = load(tmp_path / "m")
    assert loaded.tokenizer.pad_token_id is not None
    assert any("padding" in note for note in loaded.notes)


def test_a_template_that_writes_the_date_is_the_same_template_on_every_day(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "dated.jinja").write_text(
        "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    base = BaseConfig(model=str(llama), quantization="none", chat_template="dated.jinja")
    one, other = (load_base(base, tmp_path, "cpu") for _ in range(2))
    assert one.tokenizer.apply_chat_template(CHAT, tokenize=False).startswith("26 Jul 2024 00:00:00.000000")
    assert one.identity == other.identity
    assert any("always told 2024-07-26" in note for note in one.notes)
    later = load_base(base.model_copy(update={"chat_template_date": date(2025, 1, 1)}), tmp_path, "cpu")
    assert later.identity.details["template_sha256"] != one.identity.details["template_sha256"]


def test_the_tokenizer_knows_what_the_base_takes(llama: Path) -> None:
    assert load_tokenizer(BaseConfig(model=str(llama)), llama).model_max_length == 256
