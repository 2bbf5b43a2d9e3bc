from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.errors import ConfigError, NonFiniteLoss, OutOfMemory
from tunery.models.adapter import detach_adapter
from tunery.models.adapter_files import load_adapter
from tunery.models.base import load_base
from tunery.records.rows import Example, PreparedData
from tunery.records.runs import StepMetrics
from tunery.training.checkpoints import latest_checkpoint
from tunery.training.nll import validation_nll

TOKENS = torch.tensor([[5, 9, 30, 44, 60, 61]])


def losses(history: Any) -> list[float]:
    return [entry.values["train/loss"] for entry in history if "train/loss" in entry.values]


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(TOKENS).logits


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_first_loss_is_the_token_weighted_loss_of_the_batch(bench: Any, packing: bool, quantization: str) -> None:
    made = bench(rows=8, quantization=quantization, dropout=0.0)
    # 8 rows are one effective batch, so their order does not matter; packed, they fill fewer sequences.
    expected = validation_nll(made.model, made.data.train, batch_size=1, device="cpu")
    trained = made.fit(max_steps=1, micro_batch_size=2, gradient_accumulation_steps=4, packing=packing)
    assert losses(trained.history)[0] == pytest.approx(expected, abs=2e-5)


def test_the_end_token_is_learned_even_where_it_also_pads(bench: Any) -> None:
    made = bench(rows=2, dropout=0.0)
    end = made.base.tokenizer.pad_token_id
    rows = [Example((9, 8, 7, end), (False, False, False, True)), Example((9, end), (False, True))]
    made.data = PreparedData(rows, rows, [], made.data.report)
    expected = validation_nll(made.model, rows, batch_size=1, device="cpu")
    trained = made.fit(max_steps=1, micro_batch_size=2, gradient_accumulation_steps=1)
    assert losses(trained.history)[0] == pytest.approx(expected, abs=2e-5)


def test_training_learns(bench: Any) -> None:
    trained = bench(rows=8).fit(max_steps=30, gradient_accumulation_steps=1, micro_batch_size=8, learning_rate=1e-2)
    assert losses(trained.history)[-1] < 0.7 * losses(trained.history)[0]


def test_every_step_reports_the_designs_metrics(bench: Any) -> None:
    made = bench()
    trained = made.fit(checkpoints=2)
    steps = [entry for entry in made.reported if "train/loss" in entry.values]
    assert [entry.step for entry in steps] == [1, 2, 3, 4, 5, 6]
    names = {"loss", "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_bytes"}
    assert all(entry.values.keys() == {f"train/{name}" for name in names} for entry in steps)
    assert all(entry.values["train/tokens_per_second"] > 0 for entry in steps)
    assert [entry.step for entry in made.reported if "validation/nll" in entry.values] == [3, 6]
    assert list(trained.history) == made.reported
    assert 0 < trained.train_seconds < 60
    assert trained.peak_memory_bytes > 10**6


def test_the_reported_validation_loss_is_the_kept_models(bench: Any) -> None:
    made = bench()
    trained = made.fit(checkpoints=3)
    assert trained.validation_nll == validation_nll(made.model, made.data.validation, batch_size=4, device="cpu")


def test_a_score_between_steps_changes_no_loss_and_no_weight(bench: Any) -> None:
    quiet, scored = bench(name="quiet"), bench(name="scored")

    def score() -> float:
        scored.model.eval()
        with torch.no_grad():
            scored.model(TOKENS)
        return float(torch.rand(1))

    plain = quiet.fit(checkpoints=1, keep_best_by="last")
    trained = scored.fit(checkpoints=5, keep_best_by="last", score=score)
    assert losses(trained.history) == losses(plain.history)
    assert same(quiet.weights(), scored.weights())
    assert len([entry for entry in trained.history if "validation/score" in entry.values]) == 5


def test_a_score_between_steps_changes_nothing_on_4_bit_weights(bench: Any) -> None:
    quiet, scored = bench(name="quiet", quantization="nf4"), bench(name="scored", quantization="nf4")
    plain = quiet.fit(checkpoints=1, keep_best_by="last")
    trained = scored.fit(checkpoints=6, keep_best_by="last", score=lambda: float(logits(scored.model).sum()))
    assert losses(trained.history) == losses(plain.history)
    assert same(quiet.weights(), scored.weights())


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_kept_folder_scores_exactly_as_the_model_in_memory_and_as_in_training(
    bench: Any, quantization: str, precision: str
) -> None:
    made = bench(quantization=quantization)
    seen: list[torch.Tensor] = []

    def score() -> float:
        seen.append(logits(made.model))
        return -float(len(seen))  # the first checkpoint is the best

    trained = made.fit(checkpoints=3, keep_best_by="score", score=score, precision=precision)
    assert trained.kept_step == 2
    assert torch.equal(logits(made.model), seen[0])
    detach_adapter(made.model)
    assert torch.equal(logits(load_adapter(made.base, trained.folder)), seen[0])


@pytest.mark.parametrize(("keep", "expected"), [("score", 4), ("last", 6), ("validation/nll", None)])
def test_the_checkpoint_is_kept_by_the_rule(bench: Any, keep: str, expected: int | None) -> None:
    made = bench()
    scores = iter([0.1, 0.9, 0.5])
    trained = made.fit(checkpoints=3, keep_best_by=keep, score=lambda: next(scores), learning_rate=0.1)
    measured = {e.step: e.values["validation/nll"] for e in trained.history if "validation/nll" in e.values}
    assert trained.kept_step == (expected or min(measured, key=lambda step: measured[step]))
    assert trained.kept_by == keep
    assert trained.last_step == 6


def test_early_stopping_ends_the_run_after_checkpoints_without_improvement(bench: Any) -> None:
    made = bench()
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    trained = made.fit(
        max_steps=10, checkpoints=5, keep_best_by="score", score=lambda: next(scores), early_stopping_patience=2
    )
    assert (trained.kept_step, trained.last_step) == (2, 6)


def test_nan_weights_stop_the_run_at_the_step_and_leave_no_checkpoint(bench: Any) -> None:
    made = bench()
    with torch.no_grad():
        next(p for n, p in made.model.named_parameters() if "lora_A" in n)[0, 0] = float("nan")
    with pytest.raises(NonFiniteLoss, match=r"step 1: train/loss is nan") as caught:
        made.fit()
    assert caught.value.step == 1
    assert latest_checkpoint(made.out) is None


def test_an_infinite_gradient_stops_the_run_before_the_weights_move(bench: Any) -> None:
    made = bench()
    parameter = next(p for n, p in made.model.named_parameters() if "lora_B" in n)
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = made.weights()
    with pytest.raises(NonFiniteLoss, match=r"train/grad_norm is (nan|inf)"):
        made.fit()
    assert same(made.weights(), before)


def test_a_diverging_run_stops_with_finite_weights(bench: Any) -> None:
    made = bench(dropout=0.0)
    with pytest.raises(NonFiniteLoss):
        made.fit(learning_rate=1e30, max_steps=20, scheduler="constant", max_grad_norm=1e30)
    assert all(torch.isfinite(weight).all() for weight in made.weights().values())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_change(bench: Any, error: Exception) -> None:
    made = bench()

    def exhausted(*_: Any) -> None:
        raise error

    handle = made.model.get_base_model().lm_head.register_forward_pre_hook(exhausted)
    layer = made.model.get_base_model().model.layers[0].register_forward_pre_hook(exhausted)
    with pytest.raises(OutOfMemory, match=r"training\.micro_batch_size"):
        made.fit()
    handle.remove()
    layer.remove()


def test_another_runtime_error_is_not_called_out_of_memory(bench: Any) -> None:
    made = bench()

    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    made.model.get_base_model().model.layers[0].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        made.fit()


@pytest.mark.parametrize(
    "optimizer", ["adamw", "paged_adamw_8bit", "paged_adamw_32bit", "adamw_8bit", "adafactor", "sgd"]
)
def test_every_optimizer_moves_the_weights_of_a_quantised_base(bench: Any, optimizer: str) -> None:
    made = bench(quantization="nf4")
    before = made.weights()
    made.fit(max_steps=2, optimizer=optimizer, learning_rate=1e-2, warmup_ratio=0.0)
    moved = [not torch.equal(before[name], weight) for name, weight in made.weights().items() if "lora_B" in name]
    assert all(moved)


@pytest.mark.parametrize(
    "scheduler",
    ["cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt", "cosine_with_min_lr"],
)
def test_every_scheduler_runs(bench: Any, scheduler: str) -> None:
    trained = bench().fit(scheduler=scheduler, max_steps=4)
    rates = [e.values["train/learning_rate"] for e in trained.history if "train/learning_rate" in e.values]
    assert max(rates) <= 3.0e-3
    assert len(rates) == 4


def test_warm_up_takes_its_share_of_the_steps(bench: Any) -> None:
    trained = bench().fit(scheduler="constant_with_warmup", max_steps=10, warmup_ratio=0.4)
    rates = [e.values["train/learning_rate"] for e in trained.history if "train/learning_rate" in e.values]
    assert rates == pytest.approx([3.0e-3 * min(step / 4, 1) for step in range(10)])


def test_checkpointed_activations_change_no_loss(bench: Any) -> None:
    plain = bench(name="plain", dropout=0.0).fit()
    made = bench(name="checkpointed", dropout=0.0)
    trained = made.fit(gradient_checkpointing=True)
    assert losses(trained.history) == pytest.approx(losses(plain.history), abs=1e-5)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in made.model.modules())


def test_activations_are_really_computed_twice_when_asked(bench: Any) -> None:
    made = bench()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled() or made.model.training

    made.model.get_base_model().model.layers[0].self_attn.register_forward_pre_hook(count)
    made.fit(gradient_checkpointing=True, max_steps=1, gradient_accumulation_steps=1, keep_best_by="last")
    assert calls == 2


def test_noise_on_embeddings_changes_training_and_is_gone_afterwards(bench: Any) -> None:
    plain = bench(name="plain").fit(keep_best_by="last")
    made = bench(name="noisy")
    trained = made.fit(neftune_noise_alpha=5.0, keep_best_by="last")
    assert losses(trained.history)[0] != losses(plain.history)[0]
    made.model.train()
    embeddings = made.model.get_input_embeddings()
    assert torch.equal(embeddings(TOKENS), embeddings(TOKENS))


def test_adapters_stay_in_fp32_over_4_bit_weights(bench: Any) -> None:
    made = bench(quantization="nf4")
    seen: set[torch.dtype] = set()
    made.fit(max_steps=1, report=lambda _: seen.update(weight.dtype for weight in made.weights().values()))
    assert seen == {torch.float32}


def test_the_first_weights_are_not_rounded_to_bfloat16_on_the_way(bench: Any) -> None:
    made = bench(quantization="nf4")
    before = made.weights()
    made.fit(max_steps=1, learning_rate=1e-12, weight_decay=0.0)
    for name, weight in made.weights().items():
        torch.testing.assert_close(weight, before[name], atol=1e-9, rtol=1e-6)


def test_small_steps_move_every_entry_of_an_adapter(bench: Any) -> None:
    # Adapters in bf16: 94 % of the entries of lora_A did not change in 20 steps at this rate.
    made = bench(quantization="nf4")
    seen: list[dict[str, torch.Tensor]] = []
    made.fit(max_steps=20, learning_rate=2e-5, keep_best_by="last", report=lambda _: seen.append(made.weights()))
    first, last = seen[0], seen[-1]
    still = torch.cat([(last[n] == first[n]).flatten() for n in last if "lora_A" in n])
    assert still.float().mean() < 0.01


def test_new_rows_of_both_matrices_are_learned(bench: Any) -> None:
    made = bench()
    start, end = made.base.new_token_ids
    rows = [Example((start, 40, 50, end), (False, False, True, True))] * 8
    made.data = PreparedData(rows, rows, [], made.data.report)
    before = made.weights()
    made.fit(max_steps=4)
    deltas = [name for name in before if "trainable_tokens_delta" in name]
    assert len(deltas) == 2
    after = made.weights()
    assert not torch.equal(after[deltas[0]][0], before[deltas[0]][0])  # <|im_start|> is read
    assert not torch.equal(after[deltas[1]][1], before[deltas[1]][1])  # <|im_end|> is written


def test_full_fine_tuning_leaves_a_base_that_scores_exactly_the_same(bench: Any) -> None:
    from tunery.config.model import BaseConfig

    made = bench(method="full")
    trained = made.fit(max_steps=3, learning_rate=1e-3)
    again = load_base(BaseConfig(model=str(trained.folder), quantization="none"), Path(), "cpu")
    assert torch.equal(logits(again.model), logits(made.model))
    assert not list(trained.folder.glob("*.pt*"))


def test_full_fine_tuning_of_half_precision_weights_ends_in_their_type_and_moved(bench: Any) -> None:
    made = bench(method="full", dtype="bfloat16")
    before = made.weights()
    trained = made.fit(max_steps=3, learning_rate=1e-2)
    after = made.weights()
    assert {weight.dtype for weight in after.values()} == {torch.bfloat16}
    assert all(not torch.equal(after[name], before[name]) for name in before)
    again = type(made.model).from_pretrained(trained.folder, dtype=torch.bfloat16)
    assert torch.equal(logits(again), logits(made.model))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_mixture_of_experts_is_trained_and_its_best_checkpoint_brought_back(
    bench: Any, tmp_path: Path, method: str
) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    from tunery.config.model import AdapterConfig, BaseConfig
    from tunery.models.adapter import attach_adapter

    made = bench()
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=300, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, initializer_range=0.2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "moe")
    made.base.tokenizer.save_pretrained(tmp_path / "moe")
    quantization = "nf4" if method == "lora" else "none"
    made.base = load_base(BaseConfig(model=str(tmp_path / "moe"), quantization=quantization), Path(), "cpu")
    made.model = attach_adapter(made.base, AdapterConfig(rank=4, method=method), seed=0).model  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []

    def score() -> float:
        seen.append(logits(made.model))
        return -float(len(seen))

    trained = made.fit(checkpoints=3, keep_best_by="score", score=score)
    assert trained.kept_step == 2
    assert torch.equal(logits(made.model), seen[0])
    assert not torch.equal(seen[0], seen[1])


def test_a_resident_base_trains_the_second_time_as_the_first(bench: Any) -> None:
    from tunery.config.model import AdapterConfig
    from tunery.models.adapter import attach_adapter

    made = bench(quantization="nf4")
    first = made.fit(neftune_noise_alpha=1.0, gradient_checkpointing=True)
    kept = made.weights()
    detach_adapter(made.model)
    made.model = attach_adapter(made.base, AdapterConfig(rank=4, dropout=0.1), seed=0).model
    second = made.fit(neftune_noise_alpha=1.0, gradient_checkpointing=True)
    assert losses(second.history) == losses(first.history)
    assert same(made.weights(), kept)


def test_a_report_that_raises_stops_the_run_and_leaves_the_model_clean(bench: Any) -> None:
    class Pruned(Exception):
        pass

    made = bench()
    forward = made.model.get_base_model().forward

    def report(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            raise Pruned

    with pytest.raises(Pruned):
        made.fit(report=report)
    assert made.model.get_base_model().forward == forward
    assert not made.model.training


@pytest.mark.parametrize(("keep", "rows"), [("score", 7), ("validation/nll", 0)])
def test_a_rule_with_nothing_to_go_by_is_refused_before_training(bench: Any, keep: str, rows: int) -> None:
    made = bench()
    made.data = PreparedData(made.data.train, made.data.validation[:rows], [], made.data.report)
    with pytest.raises(ConfigError, match=r"training\.keep_best_by"):
        made.fit(keep_best_by=keep)
    assert made.reported == []


def test_the_data_order_follows_the_seed(bench: Any) -> None:
    runs = [bench(name=f"run{index}", dropout=0.0).fit(seed=seed) for index, seed in enumerate((1, 1, 2))]
    assert losses(runs[0].history) == losses(runs[1].history) != losses(runs[2].history)


@pytest.mark.parametrize("keep_best_by", ["validation/nll", "last"])
def test_a_validation_loss_that_is_no_number_stops_the_run_at_its_step(
    bench: Any, monkeypatch: pytest.MonkeyPatch, keep_best_by: str
) -> None:
    monkeypatch.setattr("tunery.training.context.validation_nll", lambda *_args, **_options: float("nan"))
    with pytest.raises(NonFiniteLoss, match="step 2: validation/nll is nan"):
        bench().fit(max_steps=4, checkpoints=2, keep_best_by=keep_best_by)


def test_no_checkpoint_is_chosen_by_a_score_that_is_no_number(bench: Any) -> None:
    with pytest.raises(NonFiniteLoss, match="step 2: validation/score is nan"):
        bench().fit(max_steps=4, checkpoints=2, keep_best_by="score", score=lambda: float("nan"))
