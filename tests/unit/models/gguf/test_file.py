from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.models.gguf.made import CHATML, write_gguf

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError
from tunery.estimation.architecture import architecture_of
from tunery.models.base import LoadedBase, load_base, load_tokenizer
from tunery.models.gguf.file import GgufFile
from tunery.models.source import check_base

TEXT = "The king of Ona is red, 1234 times."


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path_factory.mktemp("assets")))
        yield


@pytest.fixture(scope="module")
def file(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(llama, tmp_path_factory.mktemp("gguf") / "small.gguf")


def config(model: Path | str, **changes: Any) -> BaseConfig:
    return BaseConfig(model=str(model), **{"quantization": "none", **changes})


def logits(base: LoadedBase) -> Any:
    import torch

    with torch.no_grad():
        return base.model(torch.tensor([base.tokenizer.encode(TEXT)])).logits


def refused(file: Path) -> str:
    with pytest.raises(BaseModelError) as caught:
        load_base(config(file), Path(), "cpu")
    return str(caught.value)


def test_a_gguf_file_gives_the_logits_of_the_model_that_it_was_made_of(llama: Path, file: Path) -> None:
    import torch

    ours, original = (load_base(config(base), Path(), "cpu", chat=False) for base in (file, llama))
    assert ours.tokenizer.encode(TEXT) == original.tokenizer.encode(TEXT)
    torch.testing.assert_close(logits(ours), logits(original))


def test_a_log_gets_no_progress_bar_of_tensors(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))  # where nothing is read already
    load_base(config(file), Path(), "cpu")
    assert "tensors" not in capsys.readouterr().err


def test_the_vocabulary_is_the_files(llama: Path, file: Path) -> None:
    """transformers adds GPT-2's end token to every byte-level vocabulary, past the embedding's last row."""
    ours, original = (load_tokenizer(config(base), Path(), chat=False) for base in (file, llama))
    assert ours.get_vocab() == original.get_vocab()


def test_a_gguf_base_is_identified_by_the_file_and_recorded_as_dequantised(file: Path) -> None:
    import hashlib

    loaded = load_base(config(file), Path(), "cpu")
    assert loaded.identity.revision == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert loaded.identity.license == "apache-2.0"
    assert loaded.identity.details["dequantised_from"] == "ALL_F32"
    assert loaded.identity.chat_template == "own"
    assert loaded.tokenizer.chat_template == CHATML
    assert loaded.tokenizer.model_max_length == 256
    assert any("dequantised to float32" in note for note in loaded.notes)


def test_a_gguf_base_is_quantised_again_and_says_so(file: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    loaded = load_base(config(file, quantization="nf4"), Path(), "cpu")
    assert any(isinstance(module, Linear4bit) for module in loaded.model.modules())
    assert any("rounded twice" in note for note in loaded.notes)


def test_a_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_base(config(file), Path(), "cpu")
    monkeypatch.setattr(GgufFile, "_write_whole", lambda *_: pytest.fail("read again"))
    load_base(config(file), Path(), "cpu")
    load_tokenizer(config(file), Path())


def test_an_estimate_reads_no_weights(file: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GgufFile, "weights", lambda *_: pytest.fail("weights were read"))
    ours, original = (architecture_of(config(base), Path()) for base in (file, llama))
    assert ours.parameters == original.parameters


def test_a_missing_file_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"gone\.gguf.* a \.gguf file, a hub id"):
        check_base(config("owner/gone.gguf"), tmp_path)


def test_a_folder_of_gguf_files_says_to_name_one(file: Path) -> None:
    with pytest.raises(BaseModelError, match=r"name one on this machine, as in base.model: \.\.\./small\.gguf"):
        check_base(config(file.parent), Path())


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"not one of them, but longer than a header")
    with pytest.raises(BaseModelError, match=r"GGUF file that transformers can read \(.*magic bytes"):
        check_base(config(tmp_path / "a.gguf"), Path())


def test_an_architecture_that_transformers_cannot_read_is_refused(llama: Path, tmp_path: Path) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", architecture="rwkv7")
    with pytest.raises(BaseModelError, match="architecture rwkv7 is not supported"):
        check_base(config(file), Path())


def test_a_tensor_that_transformers_would_drop_is_refused(llama: Path, tmp_path: Path) -> None:
    import numpy

    extra = {"blk.0.attn_q.bias": numpy.ones(64, dtype=numpy.float32)}
    assert "blk.0.attn_q.bias have no place" in refused(write_gguf(llama, tmp_path / "a.gguf", tensors=extra))


def test_a_weight_that_transformers_would_draw_at_random_is_refused(llama: Path, tmp_path: Path) -> None:
    told = refused(write_gguf(llama, tmp_path / "a.gguf", without="blk.1.ffn_up.weight"))
    assert "model.layers.1.mlp.up_proj.weight missing" in told


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, "llama.rope.scaling.factor is 4.0"),
        ({"logit_scale": 0.5}, "llama.logit_scale is 0.5"),
        ({"attention.value_length": 8}, "llama.attention.value_length is 8"),
    ],
)
def test_a_setting_that_transformers_would_drop_is_refused(
    settings: dict[str, Any], expected: str, llama: Path, tmp_path: Path
) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", settings=settings)
    with pytest.raises(BaseModelError, match=expected):
        check_base(config(file), Path())


def test_a_setting_that_says_what_is_so_anyway_is_taken(llama: Path, tmp_path: Path) -> None:
    settings = {"attention.value_length": 16, "rope.scaling.type": "none", "expert_count": 0}
    check_base(config(write_gguf(llama, tmp_path / "a.gguf", settings=settings)), Path())


def test_text_that_transformers_would_split_in_another_way_is_refused(llama: Path, tmp_path: Path) -> None:
    told = refused(write_gguf(llama, tmp_path / "a.gguf", pre="deepseek-llm"))
    assert "tokenizer.ggml.pre is 'deepseek-llm'" in told


def test_the_long_context_scaling_of_llama_3_is_put_back(llama: Path, tmp_path: Path) -> None:
    file = write_gguf(llama, tmp_path / "a.gguf", tensors={"rope_freqs.weight": llama_3_divisors(16, 10000.0, 32.0)})
    parameters = load_base(config(file), Path(), "cpu").model.config.rope_parameters
    assert parameters["rope_type"] == "llama3"
    assert (parameters["factor"], parameters["original_max_position_embeddings"]) == (32.0, 8192)


def test_another_scaling_of_positions_is_refused(llama: Path, tmp_path: Path) -> None:
    import numpy

    divisors = numpy.array([1, 1, 2, 3, 4, 5, 6, 8], dtype=numpy.float32)
    file = write_gguf(llama, tmp_path / "a.gguf", tensors={"rope_freqs.weight": divisors})
    with pytest.raises(BaseModelError, match=r"the scaling of Llama 3\.1, the only one"):
        check_base(config(file), Path())


def llama_3_divisors(width: int, theta: float, factor: float) -> Any:
    """What llama.cpp's converter writes for Llama 3.2 (convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors)."""
    import math

    import numpy

    divisors = []
    for pair in range(width // 2):
        length = 2 * math.pi * theta ** (2 * pair / width)
        smooth = (8192 / length - 1.0) / (4.0 - 1.0)
        inside = 1 / ((1 - smooth) / factor + smooth)
        divisors.append(1.0 if length < 8192 / 4 else factor if length > 8192 else inside)
    return numpy.array(divisors, dtype=numpy.float32)
