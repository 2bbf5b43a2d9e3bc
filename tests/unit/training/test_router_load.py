from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.training.conftest import EMPTY_REPORT, examples

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.config.training import TrainingConfig
from tunery.models.adapter import attach_adapter
from tunery.models.base import load_base
from tunery.records.rows import Example, PreparedData
from tunery.records.runs import StepMetrics
from tunery.training.fit import fit
from tunery.training.router_load import RouterLoad, loads_of

EXPERTS, TOP_K, LAYERS = 4, 2, 2


@pytest.fixture(scope="session")
def mixtral(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Mixtral of two layers with four experts each, with the Llama's tokenizer."""
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("mixtral"), AutoTokenizer.from_pretrained(llama)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        initializer_range=0.2,
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def adapted(mixtral: Path) -> Callable[..., Any]:
    def make(quantization: str = "none") -> Any:
        base = load_base(
            BaseConfig.model_validate({"model": str(mixtral), "quantization": quantization}), Path(), "cpu"
        )
        settings = AdapterConfig(rank=4, dropout=0.0, target_modules=["q_proj", "v_proj"])
        return base, attach_adapter(base, settings, seed=0).model

    return make


def by_hand(model: Any, rows: list[Example]) -> dict[str, float]:
    """Loads from the router's logits, row by row without padding: the top two of each token, counted one at a time."""
    counts = [[0] * EXPERTS for _ in range(LAYERS)]
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids]), output_router_logits=True).router_logits
        for layer in range(LAYERS):
            for token in logits[layer].tolist():
                for expert in sorted(range(EXPERTS), key=lambda one: -token[one])[:TOP_K]:
                    counts[layer][expert] += 1
    found = {}
    for layer, row_counts in enumerate(counts):
        balanced = sum(row_counts) / EXPERTS
        loads = [count / balanced for count in row_counts]
        met = [load for load, count in zip(loads, row_counts, strict=True) for _ in range(count)]
        found |= {f"router/load_{layer}_max": max(loads), f"router/load_{layer}_mean": sum(met) / len(met)}
    return found


def trained(base: Any, model: Any, rows: list[Example], out: Path, **settings: Any) -> list[dict[str, float]]:
    """Loads at each logged step."""
    told: list[StepMetrics] = []
    config = TrainingConfig(
        **{"device": "cpu", "max_steps": 1, "micro_batch_size": 4, "gradient_accumulation_steps": 2, **settings}
    )
    data = PreparedData(rows, examples(3, seed=1), [], EMPTY_REPORT)
    fit(model, base.tokenizer, data, config, max_length=64, out=out, report=told.append)
    loads = [{k: v for k, v in one.values.items() if k.startswith("router/")} for one in told]
    return [one for one in loads if one]


@pytest.mark.parametrize(
    ("settings", "quantization"),
    [
        ({}, "none"),
        ({"gradient_checkpointing": True}, "none"),
        ({"packing": True, "gradient_accumulation_steps": 1}, "none"),  # two packs of 64 tokens
        ({}, "nf4"),
    ],
    ids=["plain", "gradient checkpointing", "packing", "quantised experts"],
)
def test_loads_are_those_that_the_routers_logits_give_without_padding(
    adapted: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], quantization: str
) -> None:
    base, model = adapted(quantization)
    rows = examples(8)  # of 4 to 20 tokens: about half of a batch is padding; one step reads all of them
    expected = by_hand(base.model, rows)  # the adapter begins at zero: before the step, the model is its base
    (loads,) = trained(base, model, rows, tmp_path, **settings)
    assert loads == pytest.approx(expected)


def test_points_come_at_the_logging_interval_and_cover_it(adapted: Callable[..., Any], tmp_path: Path) -> None:
    base, model = adapted()
    rows = examples(8)
    expected = by_hand(base.model, rows)
    # Two steps of four rows each: one epoch, at a rate that moves nothing.
    settings = {"max_steps": 2, "gradient_accumulation_steps": 1, "log_every_steps": 2, "learning_rate": 1e-30}
    (loads,) = trained(base, model, rows, tmp_path, **settings)
    assert loads == pytest.approx(expected)


def test_routers_keep_their_weights_to_the_last_bit(adapted: Callable[..., Any], tmp_path: Path) -> None:
    base, model = adapted()
    before = {n: p.detach().clone() for n, p in model.named_parameters() if ".gate." in n}
    moved = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    trained(base, model, examples(8), tmp_path, max_steps=3, learning_rate=1e-2)
    after = dict(model.named_parameters())
    assert len(before) == LAYERS
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert any(not torch.equal(after[name], weight) for name, weight in moved.items())


def test_counting_changes_no_weight_and_leaves_no_hook(
    adapted: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(place: str) -> dict[str, torch.Tensor]:
        base, model = adapted()
        trained(base, model, examples(8), tmp_path / place, max_steps=2)
        assert not any(one._forward_pre_hooks for one in model.modules())
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    counted = weights("counted")
    monkeypatch.setattr("tunery.training.router_load._experts", lambda _: [])
    uncounted = weights("uncounted")
    assert all(torch.equal(counted[name], weight) for name, weight in uncounted.items())


def test_what_runs_in_eval_mode_does_not_count(adapted: Callable[..., Any]) -> None:
    _, model = adapted()
    load, tokens = RouterLoad(model), torch.tensor([[5, 9, 30]])
    with load.watched():
        model.eval()(input_ids=tokens)
        assert load.take() == {}
        model.train()(input_ids=tokens)
        assert len(load.take()) == 2 * LAYERS
        assert load.take() == {}


def test_a_dense_model_has_no_loads(bench: Callable[..., Any]) -> None:
    made = bench()
    made.fit(max_steps=1)
    assert not [name for one in made.reported for name in one.values if name.startswith("router/")]


@pytest.mark.parametrize(
    ("counts", "loads"),
    [([5, 5, 5, 5], (1.0, 1.0)), ([10, 10, 0, 0], (2.0, 2.0)), ([6, 2, 0, 0], (3.0, (6 * 3 + 2 * 1) / 8))],
)
def test_a_load_is_relative_to_a_balanced_router(counts: list[int], loads: tuple[float, float]) -> None:
    assert loads_of(counts) == pytest.approx(loads)
