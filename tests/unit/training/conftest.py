from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.config.training import TrainingConfig
from tunery.records.rows import DataReport, Example, PreparedData
from tunery.records.runs import StepMetrics, Trained

EMPTY_REPORT = DataReport((), (), {}, 0, 0, 0, {}, (), 0.0, {})
WORDS = ("king", "river", "fruit", "Ona", "Tull", "red", "old", "is", "the", "of")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two spinning threads on a busy machine made 0.3 s of training last 26 s."""
    import gc

    import torch

    import tunery.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()  # the trainer collects garbage at every start: 0.5 s over all that the libraries made


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (hidden 64, 2 layers) with a byte-level BPE tokenizer and no chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([" ".join(WORDS)], vocab_size=300, special_tokens=["<s>", "</s>", "<pad>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def examples(count: int, seed: int = 0) -> list[Example]:
    """Rows of 4 to 20 tokens whose second part is learned."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        length = draw.randint(4, 20)
        start = draw.randint(1, length - 2)
        tokens = tuple(draw.randint(5, 250) for _ in range(length))
        rows.append(Example(tokens, tuple(place >= start for place in range(length))))
    return rows


@dataclass
class Bench:
    """One adapter on a fresh base, and a way to train it."""

    base: Any
    model: Any
    out: Path
    data: PreparedData
    reported: list[StepMetrics] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)  # weights, for a test that gives the base back

    def fit(
        self, *, report: Callable[[StepMetrics], None] | None = None, max_length: int = 64, **settings: Any
    ) -> Trained:
        from tunery.training.fit import fit

        keys = {key: settings.pop(key) for key in ("score", "teacher", "resume_from") if key in settings}
        config = TrainingConfig(**{"learning_rate": 3.0e-3, "device": "cpu", "max_steps": 6, **settings})

        def note(metrics: StepMetrics) -> None:
            self.reported.append(metrics)
            if report is not None:
                report(metrics)

        return fit(
            self.model, self.base.tokenizer, self.data, config, max_length=max_length, out=self.out, report=note, **keys
        )

    def weights(self) -> dict[str, Any]:
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}


@pytest.fixture
def bench(llama: Path, tmp_path: Path) -> Callable[..., Bench]:
    """bench(rows=24, quantization="none", adapter={...}, name="a"): a fresh base, adapter and output folder."""

    def make(
        rows: int = 24, quantization: str = "none", name: str = "out", dtype: str = "auto", **adapter: Any
    ) -> Bench:
        from tunery.models.adapter import attach_adapter
        from tunery.models.base import load_base

        config = BaseConfig(model=str(llama), quantization=quantization, dtype=dtype)  # type: ignore[arg-type]
        base = load_base(config, Path(), "cpu")
        attached = attach_adapter(base, AdapterConfig(**{"rank": 4, "dropout": 0.1, **adapter}), seed=0)
        data = PreparedData(examples(rows), examples(7, seed=1), [], EMPTY_REPORT)
        return Bench(base, attached.model, tmp_path / name, data)

    return make
