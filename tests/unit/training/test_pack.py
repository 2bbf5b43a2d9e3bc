"""Trials that are trained in a pack are what each would be alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.unit.training.conftest import EMPTY_REPORT, Bench, examples

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import Interrupted, Pruned
from tunery.models.adapter import attach_adapter, detach_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.sharing import sharing_weights
from tunery.records.rows import PreparedData
from tunery.records.runs import StepMetrics
from tunery.reporting.pace import Pace, listening
from tunery.training.checkpoints import latest_checkpoint
from tunery.training.pack.pack import How, Pack
from tunery.training.trainer import CheckedTrainer

Trial = dict[str, Any]  # settings of adapter and training

ADAPTERS = st.fixed_dictionaries(
    {
        "rank": st.sampled_from([1, 4, 7]),
        "alpha": st.sampled_from([1, 8, 32]),
        "dropout": st.sampled_from([0.0, 0.1, 0.5]),
        "rslora": st.booleans(),
        "target_modules": st.sampled_from(["all-linear", ["q_proj", "v_proj"], ["down_proj"]]),
    }
)
TRAININGS = st.fixed_dictionaries(
    {
        "learning_rate": st.sampled_from([1e-4, 3e-3]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "scheduler": st.sampled_from(["cosine", "linear", "constant"]),
        "max_grad_norm": st.sampled_from([0.1, 10.0]),
        "seed": st.integers(0, 9),
        "micro_batch_size": st.sampled_from([1, 3, 4]),
        "gradient_accumulation_steps": st.sampled_from([1, 2]),
        "max_steps": st.integers(1, 4),
    }
)


def losses(made: Bench) -> list[float]:
    return [entry.values["train/loss"] for entry in made.reported if "train/loss" in entry.values]


class Trials:
    """The same trials one after the other on a base, or in a pack over one; settings of adapter and training each."""

    def __init__(self, llama: Path, out: Path, **settings: Any) -> None:
        self.base = load_base(
            BaseConfig(**{"model": str(llama), "quantization": "none", **settings}), Path(), "cpu", chat=False
        )
        self.out = out

    def alone(self, trials: Sequence[tuple[Trial, Trial]]) -> list[Bench]:
        """With the trained weights in `kept`, for the base is given back."""
        found = []
        for number, trial in enumerate(trials):
            one = self._made(self.base, number, trial)
            one.fit(**trial[1])
            one.kept = one.weights()
            detach_adapter(one.model)
            found.append(one)
        return found

    def packed(self, trials: Sequence[tuple[Trial, Trial]], how: How = "together") -> tuple[list[Bench], Pack]:
        made, pack = self.members(trials), Pack(how)
        pack.run([partial(one.fit, **trial[1]) for one, trial in zip(made, trials, strict=True)])
        for one in made:
            one.kept = one.weights()
        return made, pack

    def members(self, trials: Sequence[tuple[Trial, Trial]]) -> list[Bench]:
        """Each on modules of its own, over the weights of one base."""
        bases = [replace(self.base, model=sharing_weights(self.base.model)) for _ in trials]
        return [self._made(base, number, trial) for number, (base, trial) in enumerate(zip(bases, trials, strict=True))]

    def _made(self, base: LoadedBase, number: int, trial: tuple[Trial, Trial]) -> Bench:
        model = attach_adapter(base, AdapterConfig(**trial[0]), trial[1].get("seed", 0)).model
        rows = PreparedData(examples(10, seed=number), examples(3, seed=9), [], EMPTY_REPORT)
        return Bench(base, model, self.out / f"{number}", rows)


@pytest.fixture
def trials(llama: Path, tmp_path: Path) -> Callable[..., Trials]:
    return lambda **base: Trials(llama, tmp_path, **base)


def assert_alike(one: Bench, other: Bench) -> None:
    """But for rounding, and for what Adam makes of it: it divides a gradient that is all but 0 by its size."""
    assert losses(one) == pytest.approx(losses(other), rel=1e-5)
    rates = [entry.values["train/learning_rate"] for entry in other.reported if "train/loss" in entry.values]
    apart = torch.cat([(one.kept[name] - weight).flatten() for name, weight in other.kept.items()]).abs()
    assert apart.quantile(0.99) < 1e-5
    assert apart.max() <= 2 * sum(rates) + 1e-6


def assert_same(one: Bench, other: Bench) -> None:
    """To the last bit."""
    assert losses(one) == losses(other)
    assert all(torch.equal(one.kept[name], weight) for name, weight in other.kept.items())


# Shrinking a pack takes minutes, and what fails is seldom a matter of size.
@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(["none", "nf4"]), st.lists(st.tuples(ADAPTERS, TRAININGS), min_size=2, max_size=4))
def test_each_member_of_any_pack_is_trained_as_alone(trials: Any, quantization: str, members: Any) -> None:
    made = trials(quantization=quantization)
    alone, (packed, pack) = made.alone(members), made.packed(members)
    assert (pack.joint.reason, pack.joint.apart) == (None, set())
    assert pack.most > 1
    for one, other in zip(packed, alone, strict=True):
        assert_alike(one, other)


PAIR = [
    ({"rank": 4, "dropout": 0.1}, {"max_steps": 3, "seed": 1, "gradient_accumulation_steps": 1, "checkpoints": 3}),
    ({"rank": 2, "dropout": 0.0}, {"max_steps": 5, "seed": 2, "gradient_accumulation_steps": 2, "micro_batch_size": 2}),
]


def test_trials_that_only_take_turns_are_the_same_to_the_last_bit(trials: Any) -> None:
    made = trials()
    alone, (packed, pack) = made.alone(PAIR), made.packed(PAIR, "alone")
    assert pack.most == 1
    for one, other in zip(packed, alone, strict=True):
        assert_same(one, other)


def test_both_ways_are_measured_and_one_is_kept(trials: Any) -> None:
    members = [(adapter, {**training, "max_steps": 12, "gradient_accumulation_steps": 1}) for adapter, training in PAIR]
    made = trials()
    alone, (packed, pack) = made.alone(members), made.packed(members, "auto")
    assert pack.rounds.gain(2) not in (0, 1)
    for one, other in zip(packed, alone, strict=True):
        assert_alike(one, other)


def test_16_bit_members_agree_to_their_rounding(trials: Any) -> None:
    members = [(adapter, {**training, "precision": "bf16"}) for adapter, training in PAIR]
    made = trials()
    alone, (packed, pack) = made.alone(members), made.packed(members)
    assert pack.most == 2
    for one, other in zip(packed, alone, strict=True):
        assert losses(one) == pytest.approx(losses(other), rel=0.01)


@pytest.mark.parametrize("error", [Pruned(2), ValueError("of its own")], ids=["pruned", "failed"])
def test_a_member_that_leaves_does_not_disturb_the_others(trials: Any, error: Exception) -> None:
    """What a worker does with a trial's error: it goes on, here with nothing."""
    made = trials()
    alone = made.alone(PAIR)

    def until_the_second(metrics: StepMetrics) -> None:
        if metrics.step == 2 and "train/loss" in metrics.values:
            raise error

    def leaving(one: Bench, training: Trial) -> None:
        with pytest.raises(type(error)):
            one.fit(report=until_the_second, **training)

    (first, second), pack = made.members(PAIR), Pack("together")
    pack.run([partial(leaving, first, PAIR[0][1]), partial(second.fit, **PAIR[1][1])])
    second.kept = second.weights()
    assert len(losses(first)) == 2
    assert pack.most == 2
    assert_alike(second, alone[1])


def test_an_error_that_leaves_the_pack_stops_the_others_with_a_checkpoint(trials: Any) -> None:
    stopped = []

    def failing(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            raise OSError("the disk is full")

    def other(one: Bench) -> None:
        with pytest.raises(Interrupted) as caught:
            one.fit(max_steps=50)
        stopped.append(caught.value)
        assert latest_checkpoint(one.out) is not None

    first, second = trials().members(PAIR)
    with pytest.raises(OSError, match="the disk is full"):
        Pack("together").run([partial(first.fit, report=failing), partial(other, second)])
    assert len(stopped) == 1


def test_a_signal_stops_every_member_with_a_checkpoint_and_a_resumed_one_ends_as_if_undisturbed(trials: Any) -> None:
    made = trials()
    alone = made.alone(PAIR)

    def at_two(metrics: StepMetrics) -> None:
        if metrics.step == 2 and "train/loss" in metrics.values:
            signal.raise_signal(signal.SIGINT)

    members = made.members(PAIR)
    before = signal.getsignal(signal.SIGINT)
    works = [
        partial(one.fit, report=at_two if one is members[0] else None, **trial[1])
        for one, trial in zip(members, PAIR, strict=True)
    ]
    with pytest.raises(Interrupted):
        Pack("together").run(works)
    assert signal.getsignal(signal.SIGINT) is before
    saved = [latest_checkpoint(one.out) for one in members]
    assert None not in saved
    pack = Pack("together")
    pack.run(
        [
            partial(one.fit, resume_from=one_saved, **it[1])
            for one, one_saved, it in zip(members, saved, PAIR, strict=True)
        ]
    )
    for one, other in zip(members, alone, strict=True):
        one.kept = one.weights()
        apart = torch.cat([(one.kept[name] - weight).flatten() for name, weight in other.kept.items()]).abs()
        assert apart.quantile(0.99) < 1e-5


def test_what_cannot_share_a_pass_is_trained_alone_and_the_reason_told(trials: Any) -> None:
    members = [*PAIR, ({"rank": 2, "dora": True}, PAIR[0][1])]
    made = trials()
    alone, (packed, pack) = made.alone(members), made.packed(members)
    assert pack.most == 2
    assert [reason.split()[0] for reason in pack.joint.apart] == ["DoRA"]
    assert_same(packed[2], alone[2])
    for one, other in zip(packed[:2], alone[:2], strict=True):
        assert_alike(one, other)


def test_a_base_with_dropout_of_its_own_is_not_packed(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dropping"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.1}))
    _, pack = Trials(folder, tmp_path / "out").packed(PAIR)
    assert pack.most == 1
    assert pack.joint.apart == {"the base draws dropout of its own (attention_dropout)"}


def test_memory_that_does_not_suffice_for_all_is_no_end(trials: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the backward pass: the batch is computed again by each alone, with the draws of before."""
    made = trials()
    alone = made.alone(PAIR)

    def full(*_: Any) -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr(torch.autograd, "backward", _once(full, torch.autograd.backward))
    packed, pack = made.packed(PAIR)
    assert pack.joint.reason == "memory does not suffice"
    for one, other in zip(packed, alone, strict=True):
        assert_alike(one, other)


def _once(first: Callable[..., None], then: Callable[..., None]) -> Callable[..., None]:
    calls = iter([first])

    def call(tensors: Any, gradients: Any = None, *args: Any, **kwargs: Any) -> None:
        # The joint pass alone gives a gradient; a trial's own loss is a number.
        chosen = next(calls, then) if isinstance(gradients, torch.Tensor) and gradients.dim() == 2 else then
        chosen(tensors, gradients, *args, **kwargs)

    return call


def follow(made: Trials, third: tuple[Trial, Trial]) -> tuple[Bench, Bench, Pack]:
    """A trial that enters beside one that runs, after another has left: alone, in the pack, and the pack."""
    specs = [(PAIR[1][0], {**PAIR[1][1], "max_steps": 8}), ({"rank": 2}, {**PAIR[0][1], "max_steps": 2}), third]
    alone = made.alone(specs)[2]
    first, second, last = made.members(specs)
    pack = Pack("together")

    def in_turn() -> None:
        second.fit(**specs[1][1])
        last.fit(**third[1])

    pack.run([partial(first.fit, **specs[0][1]), in_turn])
    last.kept = last.weights()
    return alone, last, pack


def test_noise_on_the_embeddings_is_drawn_for_a_trial_that_enters_later_too(trials: Any) -> None:
    alone, packed, pack = follow(trials(), (PAIR[0][0], {**PAIR[0][1], "neftune_noise_alpha": 5.0}))
    assert pack.most == 2
    assert pack.joint.apart == {"more is done to its embeddings than looking them up"}
    assert_same(packed, alone)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_base_whose_positions_depend_on_the_longest_row_is_not_packed(llama: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "turned"
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    factors = {"long_factor": [4.0] * 8, "short_factor": [1.0] * 8, "original_max_position_embeddings": 64}
    told = {"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0, **(factors if kind == "longrope" else {})}
    (folder / "config.json").write_text(json.dumps({**config, "rope_parameters": told}))
    _, pack = Trials(folder, tmp_path / "out").packed(PAIR)
    assert pack.joint.apart == {"its positions depend on the longest row of a batch"}


def test_a_trial_that_fails_between_its_passes_leaves_nothing_to_the_next(
    trials: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next is trained alone, so that no pass is shared after the one that was left open."""
    made, compute = trials(), CheckedTrainer.compute_loss
    specs = [*PAIR, ({"rank": 2, "dora": True}, PAIR[0][1])]
    alone = made.alone(specs)
    first, second, last = made.members(specs)

    def failing(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(trainer, *args, **kwargs)
        if trainer.context.model is first.model and trainer.state.global_step == 1:
            raise ValueError("of its own")
        return loss

    monkeypatch.setattr(CheckedTrainer, "compute_loss", failing)

    def in_turn() -> None:
        with pytest.raises(ValueError, match="of its own"):
            first.fit(**specs[0][1])
        last.fit(**specs[2][1])

    pack = Pack("together")
    pack.run([in_turn, partial(second.fit, **specs[1][1])])
    for one, other in ((second, alone[1]), (last, alone[2])):
        one.kept = one.weights()
        assert_alike(one, other)


@pytest.mark.parametrize("at", ["Carrier.__init__", "Carrier.forward"])
def test_whatever_fails_together_is_trained_alone(trials: Any, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def unlike(*_: Any) -> None:
        raise AttributeError("no attribute 'weight'")

    made = trials()
    alone = made.alone(PAIR)
    monkeypatch.setattr(f"tunery.training.pack.joint.{at}", unlike)
    packed, pack = made.packed(PAIR)
    assert pack.joint.reason == "together it fails: no attribute 'weight'"
    for one, other in zip(packed, alone, strict=True):
        assert_same(one, other)


def test_a_second_signal_in_a_pass_of_all_ends_each_of_them(trials: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def work(one: Bench, training: Trial) -> None:
        try:
            one.fit(**training)
        finally:
            ended.append(one)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    pack, members = Pack("together"), trials().members(PAIR)
    monkeypatch.setattr(pack.joint, "backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.run([partial(work, one, trial[1]) for one, trial in zip(members, PAIR, strict=True)])
    assert len(ended) == 2


def test_lines_about_long_work_are_heard_from_a_pack() -> None:
    said: list[str] = []
    clock = iter([0.0, 40.0])

    def work() -> None:
        Pace("scoring", 4, "items", clock=lambda: next(clock)).advance()

    with listening(said.append):
        Pack("alone").run([work])
    assert [line.split(",")[0] for line in said] == ["scoring: 1 of 4 items"]
