from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunery.config.load import project_from
from tunery.config.project import Project
from tunery.errors import ConfigError
from tunery.estimation.command import EstimatedRun, estimate_run, estimate_table
from tunery.estimation.estimate import Fit, MemoryEstimate

GIB = 2**30
SAID = MemoryEstimate(
    base="someone/model-7b",
    architecture="LlamaForCausalLM",
    parameters=7_000_000_000,
    trainable_parameters=40_000_000,
    device="cuda",
    micro_batch_size=4,
    length=2048,
    training={"weights": 4 * GIB, "adapter": GIB // 8, "optimizer": GIB // 4, "gradients": 0, "activations": 9 * GIB},
    evaluation={"weights": 4 * GIB, "adapter": GIB // 8, "optimizer": GIB // 4, "validation": GIB},
    training_phase="the loss is taken",
    evaluation_phase="validation",
)
FIT = Fit(micro_batch_size=7, length=3100, length_alone=8192)


def project(**keys: str) -> Project:
    tree: dict[str, Any] = {
        "name": "memory",
        "base": {"model": "someone/model-7b"},
        "data": {"train": [{"source": "rows.jsonl"}]},
    }
    return project_from(tree, "test", Path(), [(key.replace("__", "."), value) for key, value in keys.items()])


def shown(said: MemoryEstimate = SAID, fit: Fit = FIT, memory: int = 24 * GIB, **keys: str) -> str:
    out = StringIO()
    Console(file=out, width=200).print(estimate_table(project(**keys), said, fit, memory))
    return out.getvalue()


def row(text: str, part: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"│ {part}"))


def test_every_part_stands_with_its_bytes_and_the_totals_below() -> None:
    text = shown()
    assert "4.00 GiB │   4.00 GiB" in row(text, "weights")
    assert "9.00 GiB" in row(text, "activations")
    assert "13.38 GiB │   5.38 GiB" in row(text, "in all")
    assert "when the loss is taken / during validation" in row(text, "in all")


def test_a_method_without_training_has_scoring_alone() -> None:
    text = shown(
        replace(SAID, training={}, training_phase="", trainable_parameters=0, evaluation_phase="scoring"),
        training__method="icl", training__icl="{examples: 8}", evaluation__tasks="[boolq]",
    )  # fmt: skip
    assert "7.00 B weights, none trained; 16 items, each after 8 examples of 256 tokens, on cuda" in text
    assert "training" not in text
    assert "micro batch" not in text
    assert "5.38 GiB" in row(text, "in all")


def test_the_end_of_an_estimate_names_the_next_verb() -> None:
    fits = EstimatedRun(project(), SAID, FIT, 24 * GIB)
    assert "next: tunery train --project 'projects/my own'" in fits.next_step("projects/my own")
    assert "estimate again" in replace(fits, available_bytes=GIB).next_step("projects/mine")


def test_a_part_that_takes_nothing_has_no_row() -> None:
    assert "gradients" not in shown()


def test_the_heading_says_what_was_counted() -> None:
    assert (
        shown()
        .splitlines()[0]
        .startswith(
            "someone/model-7b: LlamaForCausalLM, 7.00 B weights, 40.00 M trained (0.57%); 4 x 2048 tokens on cuda"
        )
    )


def test_a_run_that_fits_says_what_is_left_and_the_largest_that_would() -> None:
    text = shown()
    assert "Fits: 13.38 GiB of 24.00 GiB, 10.62 GiB to spare." in text
    assert "Largest micro batch at 2048 tokens: 7." in text
    assert "Longest rows at micro batch 4: 3100 tokens; alone in a batch: 8192 tokens." in text


@pytest.mark.parametrize(
    ("keys", "expected", "absent"),
    [
        ({}, "training.gradient_checkpointing: true", "base.quantization: nf4"),
        ({"base__quantization": "none"}, "base.quantization: nf4", "adapter.method: lora"),
        ({"base__quantization": "none", "adapter__method": "full"}, "adapter.method: lora", "base.quantization: nf4"),
        ({"training__gradient_checkpointing": "true"}, "training.micro_batch_size", "checkpointing: true"),
        ({"adapter__dora": "true"}, "adapter.dropout: 0", "adapter.method: lora"),
    ],
)
def test_a_run_that_does_not_fit_says_what_would_lower_it(keys: dict[str, str], expected: str, absent: str) -> None:
    text = shown(memory=12 * GIB, **keys)
    assert "Does not fit: 13.38 GiB of 12.00 GiB, 1.38 GiB too much." in text
    assert expected in text
    assert absent not in text


def test_scoring_that_does_not_fit_names_its_own_setting() -> None:
    said = replace(SAID, evaluation={"weights": 4 * GIB, "scoring": 30 * GIB}, evaluation_phase="scoring")
    text = shown(said)
    assert "lower evaluation.batch_size" in text
    assert "gradient_checkpointing" not in text


def test_what_limits_each_number_stands_beside_it() -> None:
    text = shown(fit=replace(FIT, limits=("training", "generation", "positions")))
    assert "Largest micro batch at 2048 tokens: 7 (training limits it)." in text
    assert "3100 tokens (generation limits it: evaluation.batch_size); alone" in text
    assert "8192 tokens (the base takes no more)." in " ".join(text.split())


def test_where_no_row_fits_that_is_said() -> None:
    assert "Not one row of 2048 tokens fits. Longest rows: alone in a batch: 700 tokens." in shown(fit=Fit(0, 0, 700))
    assert "Not even one row of one token fits." in shown(fit=Fit(0, 0, 0))


def test_an_estimate_of_a_training_with_offloaded_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="unset except for tunery evaluate: a training is counted, and no gradient"):
        estimate_run(project(base__offload__gpu="10 GiB"), "24 GiB")
