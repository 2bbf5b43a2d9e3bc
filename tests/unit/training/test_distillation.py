from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.unit.training.test_trainer import SETTINGS, assert_same_end, stop_at

from tunery.config.training import DistillationConfig
from tunery.errors import Interrupted
from tunery.records.rows import Example, PreparedData
from tunery.training.checkpoints import latest_checkpoint
from tunery.training.distillation import answer_logits, kl_divergence, teaching, validation_kl
from tunery.training.nll import validation_nll

CONTEXT = (7, 20, 33, 46, 59, 72)


@dataclass
class Teacher:
    """The rows after fixed tokens; `draw` of them stand first in another order."""

    data: PreparedData
    distillation: DistillationConfig
    context: tuple[int, ...] = CONTEXT

    def draw_at(self, step: int, epoch: int) -> int:
        return {"never": 0, "epoch": epoch, "step": step}[self.distillation.resample]

    def training(self, places: Sequence[int], draw: int) -> list[Example]:
        turned = (*self.context[draw:], *self.context[:draw])
        return [after(turned, self.data.train[place]) for place in places]

    def validation(self) -> list[Example]:
        return [after(self.context, row) for row in self.data.validation]


def after(context: tuple[int, ...], row: Example) -> Example:
    """A row after a context of which nothing is learned, as far as its last learned token."""
    end = max(place for place, kept in enumerate(row.trained) if kept) + 1
    return Example((*context, *row.input_ids[:end]), ((False,) * len(context)) + row.trained[:end])


def teacher_of(made: Any, context: tuple[int, ...] = CONTEXT, **settings: Any) -> Any:
    return Teacher(made.data, DistillationConfig(examples=1, **settings), context)


def fit(made: Any, teacher: Any = None, **settings: Any) -> Any:
    return made.fit(method="context-distillation", teacher=teacher or teacher_of(made), **settings)


def series(trained: Any, name: str) -> list[float]:
    return [entry.values[name] for entry in trained.history if name in entry.values]


def test_the_divergence_of_three_tokens_is_the_one_computed_by_hand() -> None:
    told = [[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [1 / 3, 1 / 3, 1 / 3]]
    said = [[0.25, 0.5, 0.25], [0.8, 0.1, 0.1], [0.6, 0.3, 0.1]]
    by_hand = 0.5 * math.log(2) - 0.25 * math.log(2)  # the first; the second is equal
    by_hand += (math.log(1 / 3 / 0.6) + math.log(1 / 3 / 0.3) + math.log(1 / 3 / 0.1)) / 3
    found = kl_divergence(torch.tensor(told).log(), torch.tensor(said).log() + 3.0)  # logits may be shifted
    assert float(found) == pytest.approx(by_hand, abs=1e-6)
    # At temperature 2, p is proportional to its square root.
    roots = [[math.sqrt(p) / sum(map(math.sqrt, row)) for p in row] for row in (told[0], said[0])]
    expected = sum(p * math.log(p / q) for p, q in zip(*roots, strict=True))
    found = kl_divergence(torch.tensor(told[:1]).log(), torch.tensor(said[:1]).log(), temperature=2.0)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_an_empty_context_gives_a_loss_of_exactly_0(bench: Any) -> None:
    made = bench(rows=8)
    trained = fit(made, teacher_of(made, context=()), max_steps=1)
    assert series(trained, "train/kl") == [0.0]
    assert series(trained, "train/grad_norm")[0] < 1e-6  # softmax rounds in its backward pass


@pytest.mark.parametrize("batches", [(8, 1), (3, 3)])
def test_the_first_loss_is_the_mean_over_the_learned_tokens_of_the_whole_batch(
    bench: Any, batches: tuple[int, int]
) -> None:
    made = bench(rows=8, dropout=0.0)
    whole = [(*CONTEXT, *row.input_ids) for row in made.data.train]
    total, tokens = 0.0, 0
    for row, longer in zip(made.data.train, whole, strict=True):  # one row at a time, without padding
        with torch.no_grad():
            said, told = (made.model(torch.tensor([ids])).logits[0].log_softmax(-1) for ids in (row.input_ids, longer))
        for place, kept in enumerate(row.trained):
            if kept:
                p, q = told[len(CONTEXT) + place - 1], said[place - 1]
                total, tokens = total + float((p.exp() * (p - q)).sum()), tokens + 1
    nll = validation_nll(made.model, made.data.train, batch_size=1, device="cpu")
    size, steps = batches
    trained = fit(made, max_steps=1, micro_batch_size=size, gradient_accumulation_steps=steps)
    assert series(trained, "train/kl")[0] == pytest.approx(total / tokens, abs=2e-5)
    assert series(trained, "train/loss")[0] == pytest.approx(nll, abs=2e-5)


def test_held_out_divergence_falls(bench: Any) -> None:
    made = bench(dropout=0.0)
    pairs = [(40 + n, 70 + n * n % 7) for n in range(7)]
    rows = [Example((one, other, 90), (False, False, True)) for one, _ in pairs for _, other in pairs]
    made.data = PreparedData(rows[::2], rows[1::2], [], made.data.report)
    distilled = teacher_of(made)
    held = distilled.validation(), made.data.validation, distilled.distillation
    before = validation_kl(made.model, *held, batch_size=3, device="cpu")
    trained = fit(made, distilled, max_steps=12, learning_rate=1e-2, keep_best_by="validation/kl")
    assert series(trained, "validation/kl")[-1] < 0.5 * before
    assert series(trained, "train/kl")[-1] < 0.5 * series(trained, "train/kl")[0]
    assert trained.kept_step == trained.last_step, "not the step with the least loss, which is an early one"
    again = validation_kl(made.model, *held, batch_size=25, device="cpu")
    assert min(series(trained, "validation/kl")) == pytest.approx(again, abs=1e-6), "the batch size does not matter"


def test_the_initial_teacher_is_the_base_to_the_last_bit_whatever_was_learned(bench: Any) -> None:
    made = bench(rows=8, quantization="nf4")
    distilled = teacher_of(made)
    told = distilled.validation()
    with teaching(made.model, DistillationConfig(examples=1, teacher="current")):
        fresh = answer_logits(made.model, told, "cpu")  # an adapter that has learned nothing adds nothing
    fit(made, distilled, max_steps=3, warmup_ratio=0.0, keep_best_by="last")
    with teaching(made.model, distilled.distillation):
        assert torch.equal(answer_logits(made.model, told, "cpu"), fresh)
    with teaching(made.model, DistillationConfig(examples=1, teacher="current")):
        assert not torch.equal(answer_logits(made.model, told, "cpu"), fresh)
    assert any(weight.requires_grad for weight in made.model.parameters()), "the adapter is on again"


def test_the_current_teacher_differs_after_a_step(bench: Any) -> None:
    kl = {}
    for teacher in ("initial", "current"):
        made = bench(rows=8, name=teacher, dropout=0.0)
        settings = {"max_steps": 3, "warmup_ratio": 0.0, "micro_batch_size": 8, "gradient_accumulation_steps": 1}
        kl[teacher] = series(fit(made, teacher_of(made, teacher=teacher), **settings), "train/kl")
    assert kl["initial"][0] == kl["current"][0]
    assert kl["initial"][1] != kl["current"][1]


def test_examples_are_drawn_anew_where_it_is_asked_for(bench: Any) -> None:
    seen: dict[str, list[int]] = {}
    for resample in ("never", "epoch", "step"):
        made = bench(rows=8, name=resample)
        distilled, draws = teacher_of(made, resample=resample), []
        rows_of = distilled.training

        def training(places: Any, draw: int, rows_of: Any = rows_of, draws: Any = draws) -> Any:
            draws.append(draw)
            return rows_of(places, draw)

        distilled.training = training
        fit(made, distilled, max_steps=5, micro_batch_size=2, gradient_accumulation_steps=2)
        seen[resample] = draws[::2]
        assert draws[::2] == draws[1::2], "the micro batches of a step have one context"
    assert seen == {"never": [0] * 5, "epoch": [0, 0, 1, 1, 2], "step": [0, 1, 2, 3, 4]}


def test_a_stopped_distillation_goes_on_bit_for_bit(bench: Any) -> None:
    settings = {"resample": "step", "teacher": "current"}
    whole = bench(rows=22, name="whole")
    expected = fit(whole, teacher_of(whole, **settings), **SETTINGS)
    stopped = bench(rows=22, name="resumed")
    with pytest.raises(Interrupted):
        fit(stopped, teacher_of(stopped, **settings), report=stop_at(7), **SETTINGS)
    resumed = bench(rows=22, name="resumed")
    again = fit(resumed, teacher_of(resumed, **settings), resume_from=latest_checkpoint(resumed.out), **SETTINGS)
    assert_same_end(resumed, again, whole, expected)


def test_a_distillation_stopped_between_two_points_of_the_curves_has_the_same_curves(bench: Any) -> None:
    settings = {**SETTINGS, "log_every_steps": 3}
    whole = bench(rows=22, name="whole")
    expected = fit(whole, **settings)
    stopped = bench(rows=22, name="resumed")
    with pytest.raises(Interrupted):
        fit(stopped, report=stop_at(6), **settings)
    checkpoint = latest_checkpoint(stopped.out)
    assert checkpoint is not None
    assert int(checkpoint.name.rpartition("-")[2]) % 3, "a checkpoint inside an interval"
    resumed = bench(rows=22, name="resumed")
    again = fit(resumed, resume_from=checkpoint, **settings)
    assert len(series(again, "train/kl")) == 4
    assert_same_end(resumed, again, whole, expected)


def test_checkpointed_activations_and_a_quantised_base_change_no_distillation_loss(bench: Any) -> None:
    plain = bench(rows=8, name="plain", dropout=0.0, quantization="nf4")
    made = bench(rows=8, name="checkpointed", dropout=0.0, quantization="nf4")
    expected = series(fit(plain, max_steps=3), "train/kl")
    found = series(fit(made, max_steps=3, gradient_checkpointing=True), "train/kl")
    assert found == pytest.approx(expected, abs=1e-6)
