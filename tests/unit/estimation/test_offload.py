from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.config.model import BaseConfig, OffloadConfig
from tunery.errors import ConfigError
from tunery.estimation.architecture import architecture_of
from tunery.estimation.offload import WeightSizes, check_offload, device_map, placement, weight_sizes

GIB = 2**30


def base(model: Path | str, **amounts: str) -> BaseConfig:
    offload = OffloadConfig(**amounts) if amounts else None
    return BaseConfig(model=str(model), dtype="float32", quantization="none", offload=offload)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a card of 12 GiB, and as much memory free."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("tunery.estimation.offload.available_bytes", lambda _: 12 * GIB)


@pytest.mark.parametrize(
    ("gpu", "kept"), [(11, None), (12, 0), (13, 0), (14, 1), (16, 2), (18, 3), (29, 3), (30, 4), (100, 4)]
)
def test_the_first_layers_lie_on_the_card_beside_room_for_one_that_passes_through(gpu: int, kept: int | None) -> None:
    sizes = WeightSizes(resident=4, on_card=[2, 2, 2, 20], on_cpu=[8, 8, 8, 8])
    assert sizes.most_on_card(gpu) == kept


def test_where_all_layers_fit_no_room_is_kept_for_one_that_passes_through() -> None:
    sizes = WeightSizes(resident=4, on_card=[2, 2, 2, 2], on_cpu=[8, 8, 8, 8])
    assert [sizes.most_on_card(gpu) for gpu in (11, 12, 13)] == [None, 4, 4]


def test_a_layer_on_the_cpu_takes_its_unquantised_bytes_there() -> None:
    sizes = WeightSizes(resident=4, on_card=[2, 2, 2], on_cpu=[8, 8, 9])
    assert [sizes.cpu_bytes(kept) for kept in range(4)] == [25, 17, 9, 0]
    assert [sizes.card_bytes(kept) for kept in range(4)] == [13, 15, 17, 10]


def test_the_parts_are_the_bytes_of_the_models_own_tensors(llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama)
    layers = [sum(weight.numel() * 4 for weight in layer.parameters()) for layer in model.model.layers]
    sizes = weight_sizes(architecture_of(base(llama), Path()), base(llama), 4)
    assert sizes.on_cpu == sizes.on_card == layers
    assert sizes.resident == sum(weight.numel() * 4 for weight in model.parameters()) - sum(layers)


def test_in_4_bits_a_layer_is_smaller_on_the_card_than_on_the_cpu(llama: Path) -> None:
    packed = base(llama).model_copy(update={"quantization": "nf4"})
    sizes = weight_sizes(architecture_of(packed, Path()), packed, 2)
    assert all(card < cpu / 2 for card, cpu in zip(sizes.on_card, sizes.on_cpu, strict=True))


def test_every_weight_has_one_place_and_all_but_layers_lie_on_the_card(llama: Path) -> None:
    model = architecture_of(base(llama), Path()).model
    places = device_map(model, 1, "cuda")
    assert places == {
        "model.embed_tokens": "cuda",
        "model.layers.0": "cuda",
        "model.layers.1": "cpu",
        "model.norm": "cuda",
        "model.rotary_emb": "cuda",
        "lm_head": "cuda",
    }
    for name, _ in [*model.named_parameters(), *model.named_buffers()]:
        assert len([place for place in places if name.startswith(f"{place}.")]) == 1


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("amounts", [{"gpu": "1 GiB", "cpu": "1 B"}, {"cpu": "1 B"}])
def test_a_base_that_fits_on_the_card_is_not_offloaded(llama: Path, amounts: dict[str, str]) -> None:
    assert placement(base(llama, **amounts), Path(), "auto") is None


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("amounts", "told"),
    [
        ({"gpu": "16 GiB"}, r"base\.offload\.gpu is '16 GiB', but must be at most 12\.00 GiB, which the card has"),
        ({"gpu": "1 KiB"}, r"base\.offload\.gpu is '1\.00 KiB', but must be at least .* embeddings and head stay"),
    ],
)
def test_amounts_that_the_card_or_the_base_cannot_meet_are_refused(
    llama: Path, amounts: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        placement(base(llama, **amounts), Path(), "auto")


@pytest.mark.usefixtures("card")
def test_both_amounts_below_the_weights_say_what_they_need(tmp_path: Path) -> None:
    config = '{"model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, '
    more = '"num_hidden_layers": 8, "num_attention_heads": 4, "architectures": ["LlamaForCausalLM"]}'
    (tmp_path / "config.json").write_text(config + more)
    # A layer: 4 matrices of 64 x 64, 3 of 64 x 128, two norms of 64; around them 2 x 100 x 64 and a norm; 4 bytes each.
    layer, around = 4 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64), 4 * (2 * 100 * 64 + 64)
    gpu = f"{around + 3 * layer} B"
    places = placement(base(tmp_path, gpu=gpu, cpu=f"{6 * layer} B"), Path(), "auto")
    assert places is not None
    assert [name for name, place in places.items() if place == "cpu"] == [f"model.layers.{n}" for n in range(2, 8)]
    with pytest.raises(
        ConfigError, match=rf"base\.offload\.cpu .* at least {6 * layer / 2**10:.2f} KiB: 6 of 8 layers"
    ):
        placement(base(tmp_path, gpu=gpu, cpu=f"{6 * layer - 1} B"), Path(), "auto")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_machine_without_a_gpu_is_told_in_one_message(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError) as raised:
        check_offload(base("acme/none", gpu="1 GiB"), device)
    text = str(raised.value)
    assert "base.offload is {'gpu': '1 GiB'}, but must be unset on a machine without a GPU" in text
    assert "\n" not in text


def test_nothing_is_asked_of_a_base_without_the_section(monkeypatch: pytest.MonkeyPatch) -> None:
    def untouched(*_: Any) -> Any:
        raise AssertionError("the base was looked at")

    monkeypatch.setattr("tunery.estimation.offload.architecture_of", untouched)
    assert placement(base("acme/none"), Path(), "cpu") is None
