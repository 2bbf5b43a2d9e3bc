"""A pass of several adapters together over one frozen base, against the same passes one after the other.

python benchmarks/pack.py                        # about two minutes on two cores
python benchmarks/pack.py --model FOLDER         # any base that transformers reads

Both ways compute the same batches, in turn, forward and backward; log-probabilities must agree to 1e-4 nats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from kept import keep, spread
from rich.console import Console
from rich.table import Table

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.openmp import wait_briefly

# Rows and tokens of each adapter's batch.
SHAPES = [(2, 16), (4, 16), (8, 20), (8, 64)]
PACKS = (2, 4, 8)


@click.command()
@click.option("--model", default="builtin:tiny", show_default=True)
@click.option("--passes", default=10, show_default=True, type=click.IntRange(min=3))
@click.option("--dropout", default=0.05, show_default=True, type=click.FloatRange(0, 0.9))
def main(model: str, passes: int, dropout: float) -> None:
    """Time both, and print milliseconds an adapter, their ratio, and how far they are apart."""
    wait_briefly()
    import torch

    from tunery.models.base import load_base

    base = load_base(BaseConfig.model_validate({"model": model, "dtype": "float32"}), Path(), "cpu")
    table, rows = Table(title=f"{model}, NF4, fp32, rank 16, dropout {dropout}, {torch.get_num_threads()} threads"), []
    for name in ("adapters", "rows x tokens each", "alone: ms", "together: ms", "ratio", "apart: nats"):
        table.add_column(name, justify="right")
    for count in PACKS:
        for shape in SHAPES:
            row = compared(base, count, shape, passes, dropout)
            rows.append(row)
            times = (f"{1000 * row[way]['median'] / count:.1f}" for way in ("alone", "together"))
            table.add_row(str(count), "{} x {}".format(*shape), *times, f"{row['ratio']:.2f}", f"{row['apart']:.1g}")
    Console(width=100).print(table)
    keep(f"pack-{Path(model).name.replace(':', '-')}", rows)


def compared(base: Any, count: int, shape: tuple[int, int], passes: int, dropout: float) -> dict[str, Any]:
    """A row of the table."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from tunery.models.adapter import attach_adapter
    from tunery.models.sharing import sharing_weights
    from tunery.training.pack.carrier import Carrier, Member, Part

    members = []
    for number in range(count):
        own = replace(base, model=sharing_weights(base.model))
        model = attach_adapter(own, AdapterConfig(rank=16, dropout=dropout), number).model.train()
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # 0 in a new adapter, which then adds nothing that could differ
                torch.nn.init.normal_(weight, std=0.02)
        members.append(Member(model))
    carrier = Carrier(members[0])
    for member in members:
        add_fused_lm_head(member.model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    ids = [torch.randint(10, 1000, shape, generator=torch.Generator().manual_seed(one)) for one in range(count)]
    inputs = [{"input_ids": one, "attention_mask": torch.ones_like(one), "labels": one} for one in ids]

    def alone() -> Any:
        found = []
        for number, (member, own) in enumerate(zip(members, inputs, strict=True)):
            torch.manual_seed(number)
            outputs = member.model(**own, use_cache=False, fused_lm_head=True)
            (-outputs.log_probs.sum()).backward()
            found.append(outputs.log_probs.detach())
        return torch.cat(found)

    def together() -> Any:
        parts = [
            Part(member, own, torch.Generator().manual_seed(number))
            for number, (member, own) in enumerate(zip(members, inputs, strict=True))
        ]
        outputs = carrier.forward(parts)
        (-outputs.log_probs.sum()).backward()
        return outputs.log_probs.detach()

    apart = float((alone() - together()).abs().max())
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(passes):
        for name, way in (("alone", alone), ("together", together)):
            seconds[name].append(timed(way))
    found = {name: spread(times) for name, times in seconds.items()}
    ratio = found["alone"]["median"] / found["together"]["median"]
    return {"adapters": count, "rows": shape[0], "tokens": shape[1], **found, "ratio": ratio, "apart": apart}


def timed(way: Callable[[], Any]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
