"""Bases whose files disagree with each other, or changed: refused, or told apart, never scored as the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, ConfigError, Interrupted
from tunery.models.adapter_files import load_adapter
from tunery.models.base import load_base
from tunery.models.files import content_hash
from tunery.models.source import check_base

TEMPLATE = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"


@pytest.fixture
def copied(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "base"))


def load(model: Path | str, folder: Path = Path(), **changes: Any) -> Any:
    return load_base(BaseConfig(model=str(model), **{"quantization": "none", **changes}), folder, "cpu")


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# ---- what a folder's revision covers


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_changed_file_beside_the_weights_is_another_revision(copied: Path, name: str) -> None:
    before = content_hash(copied)
    (copied / name).write_text((copied / name).read_text() + "\n")
    assert content_hash(copied) != before


def test_a_template_added_to_the_folder_is_another_revision(copied: Path) -> None:
    before = content_hash(copied)
    (copied / "chat_template.jinja").write_text(TEMPLATE)
    assert content_hash(copied) != before


def test_a_model_card_is_no_part_of_the_revision(copied: Path) -> None:
    before = content_hash(copied)
    (copied / "README.md").write_text("# A model\n")
    assert content_hash(copied) == before
    assert before.startswith("sha256:")


def test_the_identity_tells_a_changed_template_file_from_the_old_one(copied: Path, tmp_path: Path) -> None:
    def template_hash(text: str) -> str:
        (tmp_path / "own.jinja").write_text(text)
        return str(load(copied, tmp_path, chat_template="own.jinja").identity.details["template_sha256"])

    assert template_hash(TEMPLATE) == template_hash(TEMPLATE) != template_hash(TEMPLATE + "!")


# ---- weights and config


def test_a_base_with_missing_weights_is_refused_by_their_names(copied: Path) -> None:
    edit_weights(copied, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(BaseModelError, match=r"every weight .*model\.layers\.1\.mlp\.up_proj\.weight missing"):
        load(copied)


def test_a_config_of_more_layers_than_weights_is_refused(copied: Path) -> None:
    edit_config(copied, num_hidden_layers=3)
    with pytest.raises(BaseModelError, match=r"model\.layers\.2\..* and 6 more missing"):
        load(copied)


def test_a_config_of_fewer_layers_than_weights_is_refused(copied: Path) -> None:
    edit_config(copied, num_hidden_layers=1)
    with pytest.raises(BaseModelError, match=r"model\.layers\.1\..* have no place"):
        load(copied)


def test_a_config_of_another_architecture_is_refused(copied: Path) -> None:
    edit_config(copied, model_type="bert", architectures=["BertModel"])
    with pytest.raises(BaseModelError, match="every weight"):
        load(copied)


def test_a_config_of_other_shapes_is_refused(copied: Path) -> None:
    edit_config(copied, vocab_size=10)
    with pytest.raises(BaseModelError, match=r"shapes: lm_head\.weight, model\.embed_tokens\.weight have not"):
        load(copied)


def test_a_part_that_the_text_model_does_not_use_may_be_there(copied: Path) -> None:
    def add_tower(weights: dict[str, Any]) -> None:
        weights["vision_tower.patches.weight"] = weights["model.norm.weight"].clone()

    edit_weights(copied, add_tower)
    assert load(copied).device == "cpu"


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_tied_output_head_is_not_missing(tied_llama: Path, quantization: str) -> None:
    assert load(tied_llama, quantization=quantization).device == "cpu"


# ---- files that are not what their names say


@pytest.mark.parametrize("value", ["abc", -1])
def test_a_config_value_of_the_wrong_kind_is_a_fault_of_the_base(copied: Path, value: object) -> None:
    edit_config(copied, hidden_size=value)
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        load(copied)


def test_tokenizer_settings_that_are_a_list_are_a_fault_of_the_base(copied: Path) -> None:
    (copied / "tokenizer_config.json").write_text("[]")
    with pytest.raises(BaseModelError, match="its tokenizer cannot be loaded"):
        load(copied)


def test_a_folder_named_as_the_weights_is_no_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors").mkdir()
    with pytest.raises(BaseModelError, match="No weights were found"):
        check_base(BaseConfig(model=str(copied)), Path())


def test_a_template_file_that_is_not_text_is_a_fault_of_its_key(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"base\.chat_template is 'bad\.jinja', but must be a file of UTF-8 text"):
        load(copied, tmp_path, chat_template="bad.jinja")


def test_a_template_file_of_wrong_grammar_is_a_fault_of_its_key(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jinja").write_text("one line\n{% for %}")
    with pytest.raises(ConfigError, match=r"base\.chat_template is 'bad\.jinja'.*valid Jinja file \(line 2"):
        load(copied, tmp_path, chat_template="bad.jinja")


def test_a_template_of_wrong_grammar_in_the_folder_is_a_fault_of_the_base(copied: Path) -> None:
    (copied / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(BaseModelError, match="chat template is not valid Jinja"):
        load(copied)


def test_a_template_that_refuses_a_conversation_is_no_fault(copied: Path) -> None:
    (copied / "chat_template.jinja").write_text("{{ raise_exception('a system turn must come first') }}")
    assert load(copied).identity.chat_template == "own"


@pytest.mark.parametrize("model", ["a" * 5000, "~nobody-of-this-name/x"])
def test_a_name_that_can_be_no_folder_is_a_fault_of_its_key(model: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"base\.model is"):
        check_base(BaseConfig(model=model), tmp_path)


@pytest.mark.parametrize(("text", "said"), [("{torn", "cannot be read"), ("[]", "must hold a mapping")])
def test_adapter_settings_that_are_no_mapping_are_a_fault_of_the_adapter(
    llama: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(BaseModelError, match=rf"adapter_config\.json {said}"):
        load_adapter(load(llama), tmp_path)


@pytest.mark.parametrize("part", ["AutoTokenizer", "AutoModelForCausalLM"])
def test_a_signal_while_loading_is_no_fault_of_the_base(
    llama: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted("SIGTERM", 0, False)

    monkeypatch.setattr(f"transformers.{part}.from_pretrained", stop)
    with pytest.raises(Interrupted):
        load(llama)
