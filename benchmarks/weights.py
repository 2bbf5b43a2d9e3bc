"""A training step over NF4 weights that are expanded once and kept, against weights that every product expands again.

python benchmarks/weights.py                        # about a minute on two cores
python benchmarks/weights.py --model FOLDER         # any base that transformers reads

Both models take the same steps on the same random tokens, in turn; the losses must be equal to the last bit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from kept import keep, spread
from rich.console import Console
from rich.table import Table

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.openmp import wait_briefly

# Rows and tokens of a step.
SHAPES = [(1, 64), (1, 160), (4, 160), (4, 512)]


@dataclass
class Trained:
    """A model, its optimizer, and what its steps took and gave."""

    model: Any
    optimizer: Any
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, ids: Any) -> None:
        """One step, forward to update."""
        began = time.perf_counter()
        loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))
        self.seconds.append(time.perf_counter() - began)


@click.command()
@click.option("--model", default="builtin:tiny", show_default=True)
@click.option("--steps", default=12, show_default=True, type=click.IntRange(min=3))
def main(model: str, steps: int) -> None:
    """Time both, and print seconds a step, their ratio, and whether the losses are equal."""
    wait_briefly()
    import torch

    table, rows = Table(title=f"{model}, NF4, fp32, {torch.get_num_threads()} threads"), []
    for name in ("rows x tokens", "packed: ms", "expanded: ms", "ratio", "losses"):
        table.add_column(name, justify="right")
    for shape in SHAPES:
        packed, kept = trained(model, "packed"), trained(model, "expanded")
        ids = torch.randint(10, 1000, shape, generator=torch.Generator().manual_seed(0))
        for _ in range(steps):
            packed.step(ids)
            kept.step(ids)
        equal = packed.losses == kept.losses
        # The first steps warm up; the first of the kept ones expands the weights.
        slow, fast = spread(packed.seconds[2:]), spread(kept.seconds[2:])
        ratio = slow["median"] / fast["median"]
        rows.append({"rows": shape[0], "tokens": shape[1], "packed": slow, "expanded": fast, "equal": equal})
        times = (f"{1000 * one['median']:.1f}" for one in (slow, fast))
        table.add_row(f"{shape[0]} x {shape[1]}", *times, f"{ratio:.2f}", "equal" if equal else "DIFFERENT")
    Console(width=100).print(table)
    keep(f"weights-{Path(model).name.replace(':', '-')}", rows)


def trained(model: str, weights: str) -> Trained:
    """A base with a rank-16 adapter on every layer, ready to step."""
    import torch

    from tunery.models.adapter import attach_adapter
    from tunery.models.base import load_base

    base = load_base(BaseConfig.model_validate({"model": model, "weights": weights, "dtype": "float32"}), Path(), "cpu")
    attached = attach_adapter(base, AdapterConfig(rank=16, alpha=32, dropout=0.0), seed=0).model.train()
    learned = [one for one in attached.parameters() if one.requires_grad]
    return Trained(attached, torch.optim.AdamW(learned, lr=1e-3))


if __name__ == "__main__":
    main()
