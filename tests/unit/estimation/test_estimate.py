from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.models.conftest import write_llama

from tunery.config.load import project_from
from tunery.config.model import BaseConfig
from tunery.config.project import Project
from tunery.errors import BaseModelError, ConfigError
from tunery.estimation.activations import Adaptation, Arithmetic, Batch, Pass
from tunery.estimation.architecture import Architecture, architecture_of
from tunery.estimation.estimate import estimate, largest_fit
from tunery.estimation.phases import Phases
from tunery.estimation.weights import adapted_linears, nf4_bytes, optimizer_bytes

SHAPE = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 256}
WORDS = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
FP32_CPU = Arithmetic(stream=4, matrix=4, autocast=False, cuda=False)


def configs() -> dict[str, Callable[[], Any]]:
    from transformers import Gemma3TextConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig, OPTConfig

    return {
        "llama": lambda: LlamaConfig(**SHAPE, **WORDS, intermediate_size=176, num_key_value_heads=2),
        "tied": lambda: LlamaConfig(**SHAPE, **WORDS, intermediate_size=176, tie_word_embeddings=True),
        "neox": lambda: GPTNeoXConfig(**SHAPE, **WORDS, intermediate_size=256),
        "opt": lambda: OPTConfig(**SHAPE, **WORDS, ffn_dim=256, word_embed_proj_dim=64),
        "gpt2": lambda: GPT2Config(n_embd=64, n_layer=4, n_head=4, **WORDS),
        "mixtral": lambda: MixtralConfig(
            **SHAPE, **WORDS, intermediate_size=96, num_key_value_heads=2, num_local_experts=4
        ),
        "gemma3": lambda: Gemma3TextConfig(
            **SHAPE,
            **WORDS,
            intermediate_size=176,
            num_key_value_heads=1,
            head_dim=16,
            sliding_window=32,
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        ),
    }


ARCHITECTURES = ("llama", "tied", "neox", "opt", "gpt2", "mixtral", "gemma3")


def config_folder(name: str, folder: Path) -> Path:
    """config.json and nothing else: there is no weight to be read."""
    configs()[name]().save_pretrained(folder)
    return folder


def real_model(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(configs()[name]())


def counted(folder: Path) -> Architecture:
    return architecture_of(BaseConfig(model=str(folder)), folder)


def project(folder: Path, **keys: Any) -> Project:
    tree = {
        "name": "memory",
        "base": {"model": str(folder), "quantization": "none"},
        "data": {"train": [{"source": "rows.jsonl"}], "max_length": 128},
        "training": {"device": "cpu", "micro_batch_size": 2},
    }
    return project_from(tree, "test", folder, [(key.replace("__", "."), str(value)) for key, value in keys.items()])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_are_counted_from_the_config_as_the_real_model_has_them(name: str, tmp_path: Path) -> None:
    assert counted(config_folder(name, tmp_path)).parameter_count == real_model(name).num_parameters()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dora", [False, True])
def test_trained_weights_are_those_that_peft_makes(name: str, dora: bool, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = config_folder(name, tmp_path)
    said = estimate(project(folder, adapter__rank=5, adapter__dora=str(dora).lower()))
    linears = [linear.name for linear in adapted_linears(counted(folder), project(folder).adapter)]
    made = get_peft_model(real_model(name), LoraConfig(r=5, target_modules=linears, use_dora=dora))
    assert said.trainable_parameters == made.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_are_those_that_autograd_keeps(name: str, dropout: float, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    arch = counted(config_folder(name, tmp_path))
    linears = frozenset(linear.name for layer in arch.layers for linear in layer.linears)
    model = get_peft_model(real_model(name), LoraConfig(r=8, target_modules=sorted(linears), lora_dropout=dropout))
    what = Adaptation(linears, rank=8, dropout=dropout > 0, dora=False, full=False, stored="none")
    batch = Batch(rows=3, length=96, masked=True)
    said = sum(map(Pass(arch, FP32_CPU, what, batch).layer_bytes, arch.layers))
    # The first layer's input needs no gradient: what stands on it keeps nothing, which is counted all the same.
    assert said == pytest.approx(kept_by_autograd(model, batch), rel=0.06)


def test_past_its_window_a_single_row_needs_a_mask_in_the_layers_that_have_one(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    arch = counted(config_folder("gemma3", tmp_path))
    assert [layer.window for layer in arch.layers] == [32, 32, None, 32]
    linears = frozenset(linear.name for layer in arch.layers for linear in layer.linears)
    model = get_peft_model(real_model("gemma3"), LoraConfig(r=8, target_modules=sorted(linears)))
    what = Adaptation(linears, rank=8, dropout=False, dora=False, full=False, stored="none")
    for length in (31, 224):
        batch = Batch(rows=1, length=length, masked=False)
        said = sum(map(Pass(arch, FP32_CPU, what, batch).layer_bytes, arch.layers))
        assert said == pytest.approx(kept_by_autograd(model, batch), rel=0.06), length


def test_a_layer_with_a_window_keeps_the_keys_of_that_window_alone(tmp_path: Path) -> None:
    import torch

    phases, model = Phases(project(tmp_path), counted(config_folder("gemma3", tmp_path)), "cpu"), real_model("gemma3")
    ids = torch.randint(5, 300, (2, 200))

    def cached(length: int) -> int:
        """Bytes of the keys and values of two rows of this length."""
        layers = model(input_ids=ids[:, :length], use_cache=True).past_key_values.layers
        return sum(part.numel() * part.element_size() for layer in layers for part in (layer.keys, layer.values))

    for length, longer in ((16, 24), (100, 200)):
        assert phases.cache_bytes(2, longer) - phases.cache_bytes(2, length) == cached(longer) - cached(length)


def kept_by_autograd(model: Any, batch: Batch) -> int:
    """Bytes of all tensors that the layers of a model save for the backward pass, each storage once."""
    import torch

    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = tensor
        return tensor

    ids = torch.randint(5, 300, (batch.rows, batch.length))
    mask = torch.ones_like(ids)
    if batch.masked:
        mask[-1, -8:] = 0
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = model.get_base_model().base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert held.last_hidden_state.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


@pytest.mark.parametrize("double", [False, True])
def test_nf4_weights_take_what_bitsandbytes_stores(double: bool) -> None:
    import torch
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(torch.randn(300, 500), compress_statistics=double, quant_type="nf4")
    tensors = [packed, state.absmax, state.code]
    if double:
        tensors += [state.state2.absmax, state.state2.code, state.offset]
    assert nf4_bytes(150_000, double) == sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_a_quantised_base_takes_what_the_loaded_one_does(llama: Path) -> None:
    from tunery.models.base import load_base

    base = BaseConfig(model=str(llama), quantization="nf4", dtype="bfloat16")
    model = load_base(base, llama, "cpu", chat=False).model
    stored = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    states = [p.quant_state for p in model.parameters() if hasattr(p, "quant_state")]
    scales = [t for s in states for t in (s.absmax, s.code, s.state2.absmax, s.state2.code, s.offset)]
    said = estimate(project(llama, base__quantization="nf4", base__dtype="bfloat16"))
    assert len(states) == 14
    assert said.training["weights"] == sum(stored.values()) + sum(t.numel() * t.element_size() for t in scales)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "sgd", "adamw_8bit"])
def test_an_optimizers_states_take_what_it_allocates(name: str) -> None:
    import torch
    from bitsandbytes.optim import AdamW8bit
    from transformers.optimization import Adafactor

    make: dict[str, Callable[[Any], Any]] = {
        "adamw": torch.optim.AdamW,
        "adafactor": lambda these: Adafactor(these, lr=1e-3, scale_parameter=False, relative_step=False),
        "sgd": lambda these: torch.optim.SGD(these, lr=1e-3),
        "adamw_8bit": AdamW8bit,
    }
    architecture = [(16, 512), (300, 16), (40, 300)]
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in architecture]
    optimizer = make[name](weights)
    sum((weight**2).sum() for weight in weights).backward()
    optimizer.step()
    taken = {
        value.data_ptr(): value.numel() * value.element_size()
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.dim() and not key.startswith("qmap")
    }
    assert optimizer_bytes(name, architecture) == sum(taken.values())


def test_the_largest_fit_fits_and_one_more_does_not(tmp_path: Path) -> None:
    folder = config_folder("llama", tmp_path)
    memory = estimate(project(folder)).total_bytes + 300 * 2**20
    fit = largest_fit(project(folder), memory)
    assert fit.micro_batch_size > 2
    assert estimate(project(folder), rows=fit.micro_batch_size).total_bytes <= memory
    assert estimate(project(folder), rows=fit.micro_batch_size + 1).total_bytes > memory


def test_rows_are_never_longer_than_the_bases_positions(tmp_path: Path) -> None:
    fit = largest_fit(project(config_folder("llama", tmp_path)), 2**40)
    assert fit.length == fit.length_alone == 256
    assert fit.limits[1:] == ("positions", "positions")


@pytest.mark.parametrize(
    ("keys", "limit"),
    [
        ({}, "training"),
        ({"evaluation__batch_size": "4096", "evaluation__generation__prompts": "4096"}, "generation"),
    ],
)
def test_what_keeps_rows_short_is_named(tmp_path: Path, keys: dict[str, str], limit: str) -> None:
    asked = project(config_folder("llama", tmp_path), **keys)
    memory = (estimate(asked, length=100).total_bytes + estimate(asked, length=101).total_bytes) // 2
    assert largest_fit(asked, memory).limits[1] == limit


def test_nothing_fits_in_less_than_the_weights(tmp_path: Path) -> None:
    fit = largest_fit(project(config_folder("llama", tmp_path)), 1000)
    assert (fit.micro_batch_size, fit.length, fit.length_alone) == (0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"training__gradient_checkpointing": "true"},
        {"adapter__dropout": "0.0"},
        {"adapter__target_modules": "[q_proj]"},
        {"training__optimizer": "sgd"},
        {"base__quantization": "nf4"},
        {"training__micro_batch_size": "1"},
        {"data__max_length": "64"},
    ],
)
def test_what_saves_memory_is_said_to(change: dict[str, str], tmp_path: Path) -> None:
    folder = config_folder("llama", tmp_path)
    assert estimate(project(folder, **change)).training_bytes < estimate(project(folder)).training_bytes


def test_parts_add_up_and_full_training_has_no_adapter(tmp_path: Path) -> None:
    said = estimate(project(config_folder("llama", tmp_path), adapter__method="full"))
    assert said.trainable_parameters == said.parameters
    assert said.training["adapter"] == 0
    assert said.training["optimizer"] == 2 * said.training["weights"]
    assert said.total_bytes == max(sum(said.training.values()), sum(said.evaluation.values()))


def test_a_card_that_is_not_here_is_counted_in_bfloat16(tmp_path: Path) -> None:
    folder = config_folder("llama", tmp_path)
    here, card = estimate(project(folder)), estimate(project(folder), device="cuda")
    assert card.training["weights"] * 2 == here.training["weights"]
    assert card.device == "cuda"


def test_a_study_counts_a_base_once_and_a_changed_config_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    built: list[str] = []
    real = transformers.AutoModelForCausalLM.from_config

    def from_config(config: Any, **options: Any) -> Any:
        built.append(config.model_type)
        return real(config, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_config", from_config)
    folder = config_folder("llama", tmp_path)
    for rank in (4, 8, 16):
        estimate(project(folder, adapter__rank=rank))
    assert built == ["llama"]
    config_folder("opt", tmp_path)
    assert estimate(project(folder)).architecture == "OPTForCausalLM"


def test_the_estimate_agrees_with_the_loaded_model_of_the_tests(tmp_path: Path) -> None:
    folder = write_llama(tmp_path)
    weights = (folder / "model.safetensors").stat().st_size
    assert estimate(project(folder)).training["weights"] == pytest.approx(weights, rel=0.05)  # the file has a header


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"model_type": "no-such-thing"}', "architecture transformers knows"),
        ('{"hidden_size": 64}', "architecture transformers knows"),
        ('{"model_type": "vit"}', "architecture transformers knows"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "architecture transformers knows"),
        ("[1]", "config.json must hold a mapping"),
        ("{", "config.json cannot be read"),
        ('{"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}', "trust_remote_code"),
    ],
)
def test_a_config_that_cannot_be_counted_is_named(config: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(BaseModelError, match=expected):
        estimate(project(tmp_path))


def test_a_folder_without_a_config_and_a_base_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"config\.json"):
        estimate(project(tmp_path))
    with pytest.raises(BaseModelError, match=r"Looked in"):
        estimate(project(tmp_path / "nowhere"))


def test_a_hub_model_is_counted_from_its_config_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from tunery.estimation import architecture

    fetched: list[Any] = []

    def snapshot_download(model: str, *, revision: str, allow_patterns: list[str]) -> str:
        fetched.append((model, revision, allow_patterns))
        return str(config_folder("neox", tmp_path))

    monkeypatch.setattr(architecture, "check_hub", lambda base: "c0ffee")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert architecture_of(BaseConfig(model="someone/tiny-neox"), tmp_path).name == "GPTNeoXForCausalLM"
    assert fetched == [("someone/tiny-neox", "c0ffee", ["config.json"])]


def test_a_hub_that_does_not_answer_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunery.estimation import architecture

    monkeypatch.setattr(architecture, "check_hub", lambda base: None)
    with pytest.raises(BaseModelError, match="local cache when the Hugging Face Hub cannot be reached"):
        architecture_of(BaseConfig(model="someone/tiny-neox"), tmp_path)


def test_a_target_that_the_base_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="q_prj"):
        estimate(project(config_folder("llama", tmp_path), adapter__target_modules="[q_prj]"))


def test_distillation_counts_the_teachers_longer_row_and_the_logits_of_both(tmp_path: Path) -> None:
    folder = config_folder("llama", tmp_path)

    def phases(distillation: str, context: int | None = None) -> Phases:
        keys = {"training__method": "context-distillation", "training__distillation": distillation}
        return Phases(project(folder, **keys), counted(folder), "cpu", context)

    few, many = (phases("{examples: 4}", context).training(1, 16) for context in (16, 192))
    assert many["the teacher reads"]["teacher"] > 2 * few["the teacher reads"]["teacher"]
    # 16 tokens of 320 logits, in fp32: as computed, as log-softmax, and what is made of the two.
    assert many["the loss is taken"]["logits"] == few["the loss is taken"]["logits"] >= 4 * 16 * 320 * 4
    assert phases("{examples: 4}").context == 4 * 256
    assert phases(f"{{context: {'a word ' * 90}}}").context == 210


def test_a_method_without_training_needs_more_for_each_example_and_nothing_to_train(tmp_path: Path) -> None:
    folder = config_folder("llama", tmp_path)
    keys = {"training__method": "icl", "evaluation__tasks": "[boolq]", "evaluation__batch_size": 8}
    none, few = (estimate(project(folder, training__icl=f"{{examples: {n}}}", **keys)) for n in (0, 4))
    assert (few.training, few.training_bytes, few.trainable_parameters) == ({}, 0, 0)
    assert "optimizer" not in {part for part, size in few.evaluation.items() if size}
    assert few.total_bytes > none.total_bytes
