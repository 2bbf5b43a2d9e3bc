"""Trials that are trained in a pack are what each would be alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.training.conftest import EMPTY_REPORT, Bench, examples
from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import Interrupted, NonFiniteLoss, Pruned
from tunery.models.adapter import attach_adapter, detach_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.sharing import sharing_weights
from tunery.records.rows import PreparedData
from tunery.training.pack.pack import How, Pack

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
        self.base = load_base(BaseConfig(**{"model": str(llama), "quantization": "none", **settings}), Path(), "cpu", chat=False)
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
        bases = [replace(self.base, model=sharing_weights(self.base.model)) for _ in trials]
        made = [self._made(base, number, trial) for number, (base, trial) in enumerate(zip(bases, trials, strict=True))]
        pack = Pack(how)
        pack.run([partial(one.fit, **trial[1]) for one, trial in zip(made, trials, strict=True)])
        for one in made:
            one.kept = one.weights()
        return made, pack

    def _made(self, base: LoadedBase, number: int, trial: tuple[Trial, Trial]) -> Bench:
        model = attach_adapter(base, AdapterConfig(**trial[0]), trial[1].get("seed", 0)).model
        rows = PreparedData(examples(10, seed=number), examples(3, seed=9), [], EMPTY_REPORT)
        return Bench(base, model, self.out / f"{number}", rows)


@pytest.fixture
def trials(llama: Path, tmp_path: Path) -> Callable[..., Trials]:
    return lambda **base: Trials(llama, tmp_path, **base)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(st.tuples(ADAPTERS, TRAININGS), min_size=2, max_size=4))
def test_each_member_of_any_pack_is_trained_as_alone(trials: Any, quantization: str, members: Any) -> None:
    made = trials(quantization=quantization)
    alone, (packed, pack) = made.alone(members), made.packed(members)
    assert pack.joint.reason is None
    assert pack.most > 1
    for one, other in zip(packed, alone, strict=True):
        assert losses(one) == pytest.approx(losses(other), rel=1e-5)
        # Adam divides a gradient by its size: where it is all but 0, rounding may turn a step around.
        rate = max(entry.values["train/learning_rate"] for entry in other.reported if "train/loss" in entry.values)
        apart = torch.cat([(one.kept[name] - weight).flatten() for name, weight in other.kept.items()]).abs()
        assert apart.quantile(0.99) < 1e-5
        assert apart.max() <= 2 * rate * len(losses(other)) + 1e-6
