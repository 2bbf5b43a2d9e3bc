from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, ConfigError
from tunery.models.base import load_base
from tunery.models.device import resolve_device, resolve_precision
from tunery.models.source import check_base


def config(model: Path | str, **changes: Any) -> BaseConfig:
    return BaseConfig(model=str(model), **{"quantization": "none", **changes})


def copy_of(folder: Path, to: Path, without: tuple[str, ...] = ()) -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(*without))
    return to


class Answer:
    """What the hub's client would have received."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {}
        self.request = None


def hub_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def model_info(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def hub_has(monkeypatch: pytest.MonkeyPatch, names: list[str], **facts: Any) -> None:
    siblings = [SimpleNamespace(rfilename=name) for name in names]
    info = SimpleNamespace(**{"sha": "c0ffee", "siblings": siblings, "config": {}, **facts})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)


def test_a_folder_beside_the_project_is_found_before_the_working_folder(llama: Path) -> None:
    loaded = load_base(config(llama.name), llama.parent, "cpu")
    assert loaded.identity.model == llama.name
    assert loaded.device == "cpu"


def test_a_loaded_base_is_frozen_and_in_eval_mode(llama: Path) -> None:
    loaded = load_base(config(llama), Path(), "cpu")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_folders_revision_changes_with_one_weight_and_not_with_its_place(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    same, other = copy_of(llama, tmp_path / "same"), copy_of(llama, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    revision = {place: load_base(config(place), Path(), "cpu").identity.revision for place in (llama, same, other)}
    assert revision[llama] == revision[same] != revision[other]
    assert revision[llama].startswith("sha256:")


def test_the_license_comes_from_the_model_cards_front_matter(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "licensed")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert load_base(config(folder), Path(), "cpu").identity.license == "apache-2.0"
    assert load_base(config(llama), Path(), "cpu").identity.license is None


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"base\.model is '\./nowhere'.*Looked in") as caught:
        check_base(config("./nowhere"), tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_stand_in_that_is_not_made_yet_is_named_with_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "projects" / "qa-mistral"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError, match=r"Make it: python projects/stand_in\.py projects/qa-mistral\b"):
        check_base(BaseConfig(model="stand-in"), folder)


def test_a_base_without_a_tokenizer_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "bare", ("tokenizer*",))
    with pytest.raises(BaseModelError, match=r"with its tokenizer"):
        load_base(config(folder), Path(), "cpu")


def test_pickled_weights_are_refused_with_the_way_to_convert_them(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "pickled", ("*.safetensors",))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(BaseModelError, match=r"pytorch_model\.bin is a pickle.*save_pretrained"):
        check_base(config(folder), Path())


def test_all_faults_of_a_folder_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseModelError, match="3 faults"):
        check_base(config("empty"), tmp_path)


def test_a_torn_config_is_a_fault_of_the_base(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "torn")
    (folder / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(BaseModelError, match=r"config\.json cannot be read"):
        check_base(config(folder), Path())


def test_torn_weights_are_a_fault_of_the_base(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "short")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="weights cannot be loaded"):
        load_base(config(folder), Path(), "cpu")


def test_code_in_the_repository_needs_the_key_that_allows_it(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "own-code")
    described = json.loads((folder / "config.json").read_text())
    described["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(BaseModelError, match=r"base\.trust_remote_code is False"):
        check_base(config(folder), Path())
    check_base(config(folder, trust_remote_code=True), Path())


def test_an_unknown_builtin_lists_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"base\.model is 'builtin:huge', but must be one of the built-in models"):
        check_base(config("builtin:huge"), tmp_path)


def test_a_hub_id_without_network_and_not_in_the_cache_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_raises(monkeypatch, hub_errors.OfflineModeIsEnabled("offline"))

    def snapshot_download(*_: Any, **asked: Any) -> str:
        assert asked["local_files_only"], "the network must not be asked again"
        raise hub_errors.LocalEntryNotFoundError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(BaseModelError, match=r"cannot be reached.*local folder or builtin:tiny"):
        check_base(config("someone/something"), tmp_path)


def test_a_hub_id_without_network_is_taken_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, llama: Path, tmp_path: Path
) -> None:
    snapshot = copy_of(llama, tmp_path / "0123abc")
    hub_raises(monkeypatch, hub_errors.OfflineModeIsEnabled("offline"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    assert load_base(config("someone/something"), tmp_path, "cpu").identity.revision == "0123abc"


def test_a_gated_model_points_to_its_terms_and_hf_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_raises(monkeypatch, hub_errors.GatedRepoError("gated", response=Answer(403)))  # type: ignore[arg-type]
    with pytest.raises(BaseModelError, match=r"gated.*HF_TOKEN"):
        check_base(config("meta/gated"), tmp_path)


def test_a_private_or_misspelt_hub_id_mentions_hf_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_raises(monkeypatch, hub_errors.RepositoryNotFoundError("401", response=Answer(401)))  # type: ignore[arg-type]
    with pytest.raises(BaseModelError, match=r"Check the spelling.*HF_TOKEN"):
        check_base(config("someone/nothing"), tmp_path)


def test_an_unknown_revision_is_a_fault_of_base_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_raises(monkeypatch, hub_errors.RevisionNotFoundError("404", response=Answer(404)))  # type: ignore[arg-type]
    with pytest.raises(BaseModelError, match=r"base\.revision is 'v9'"):
        check_base(config("someone/something", revision="v9"), tmp_path)


def test_a_hub_model_with_only_pickles_is_refused_before_any_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub_has(monkeypatch, ["config.json", "tokenizer.json", "pytorch_model.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(BaseModelError, match="is a pickle"):
        load_base(config("someone/pickled"), tmp_path, "cpu")


def test_a_hub_models_branch_is_recorded_as_the_commit_it_meant(
    monkeypatch: pytest.MonkeyPatch, llama: Path, tmp_path: Path
) -> None:
    hub_has(monkeypatch, [path.name for path in llama.iterdir()])
    asked: dict[str, Any] = {}

    def snapshot_download(model: str, **keys: Any) -> str:
        asked.update(keys)
        return str(llama)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    identity = load_base(config("someone/something", revision="main"), tmp_path, "cpu").identity
    assert (identity.model, identity.revision, asked["revision"]) == ("someone/something", "c0ffee", "c0ffee")
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["allow_patterns"])


def test_a_device_that_is_not_there_is_a_fault_of_training_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"training\.device is 'cuda'"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert resolve_device("auto") == expected


@pytest.mark.parametrize(
    ("device", "has", "expected"), [("cpu", True, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp16")]
)
def test_auto_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, has: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: has)
    assert resolve_precision("auto", device) == expected


def test_fp16_without_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="loss scaling"):
        resolve_precision("fp16", "cpu")
