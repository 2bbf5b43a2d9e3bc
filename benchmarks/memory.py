"""The memory estimate beside measured peaks: real training steps of small models, each in a process of its own.

python benchmarks/memory.py            # about four minutes on two cores
python benchmarks/memory.py --only llama

On a CPU the peak is the running sum of PyTorch's allocations, on a GPU torch.cuda.max_memory_allocated. What the
process takes besides (Python, libraries, a CUDA context) is the estimate's `runtime`, which is left out on both sides.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tunery.config.load import project_from
from tunery.config.project import Project
from tunery.config.units import format_bytes

BIG = {"training.micro_batch_size": 4, "data.max_length": 512}


@dataclass(frozen=True)
class Case:
    """One run: a model, and what differs from a rank-16 adapter on unquantised weights, 2 rows of 256 tokens.

    Args:
        validation: Measure validation instead of training.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    validation: bool = False


CASES = [
    Case("tiny"),
    Case("tiny", {"base.quantization": "nf4", "training.gradient_checkpointing": True, **BIG}),
    Case("llama"),
    Case("llama", {"adapter.dropout": 0.0, **BIG}),
    Case("llama", {"base.quantization": "nf4", **BIG}),
    Case("llama", {"base.quantization": "nf4", "training.gradient_checkpointing": True, **BIG}),
    Case("llama", {"base.quantization": "nf4", "adapter.dora": True}),
    Case("llama", {"adapter.method": "full", **BIG}),
    Case("llama", {"adapter.method": "full", "training.optimizer": "adafactor"}),
    Case("llama", {"base.dtype": "bfloat16", "training.precision": "bf16", **BIG}),
    Case("llama", {"training.micro_batch_size": 1, "data.max_length": 1024}),
    Case("neox", {"base.quantization": "nf4"}),
    Case("opt"),
    Case("gpt2"),
    Case("mixtral", {"base.quantization": "nf4"}),
    Case("qwen2"),
    Case("qwen2", {"base.quantization": "nf4", "training.optimizer": "adamw_8bit"}),
    Case("phi"),
    Case("gemma2"),
    Case("gemma2", {"training.gradient_checkpointing": True, "training.micro_batch_size": 1}),
    Case("llama", BIG, validation=True),
    Case("qwen2", {"base.dtype": "bfloat16"}, validation=True),
]


@click.command()
@click.option("--only", default="", metavar="MODEL", help="Only the cases of this model.")
@click.option("--case", "case_number", type=int, hidden=True)
@click.option("--folder", type=Path, hidden=True)
def main(only: str, case_number: int | None, folder: Path | None) -> None:
    """Print estimate, measured peak and the error for every case."""
    if case_number is not None:
        assert folder is not None
        _measure(CASES[case_number], folder)
        return
    table = Table(title="Memory of training: estimate beside measured peak")
    for name in ("model", "settings"):
        table.add_column(name)
    for name in ("estimate", "measured", "error"):
        table.add_column(name, justify="right")
    errors = []
    with TemporaryDirectory(prefix="tunery-memory-") as made:
        for number, case in enumerate(CASES):
            if only in case.model:
                found = _in_a_process(number, Path(made))
                errors.append(found["estimate"] / found["measured"] - 1)
                sizes = (format_bytes(found["estimate"]), format_bytes(found["measured"]))
                table.add_row(case.model, _short(case), *sizes, f"{errors[-1]:+.1%}")
                click.echo(f"{number + 1}/{len(CASES)} {case.model} {errors[-1]:+.1%}", err=True)
    console = Console(width=150)
    console.print(table)
    sizes_of = sorted(map(abs, errors))
    console.print(f"{len(errors)} cases: median error {sizes_of[len(errors) // 2]:.1%}, largest {sizes_of[-1]:.1%}")


def _in_a_process(number: int, folder: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, "--case", str(number), "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"case {number}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(case: Case, folder: Path) -> None:
    from tunery.estimation.estimate import estimate
    from tunery.models.adapter import attach_adapter
    from tunery.models.base import load_base
    from tunery.training.fit import fit
    from tunery.training.nll import validation_nll

    project = _project(case, folder)
    said = estimate(project)
    loaded = load_base(project.base, project.folder, chat=False)
    attached = attach_adapter(loaded, project.adapter, 0)

    rows = _rows(project, loaded.model.config.vocab_size)

    def validate() -> None:
        validation_nll(attached.model, rows.train, batch_size=project.training.micro_batch_size, device=loaded.device)

    def train() -> None:
        fit(
            attached.model,
            loaded.tokenizer,
            rows,
            project.training,
            max_length=project.data.max_length,
            out=folder / "run",
            report=lambda _: None,
        )

    measured = _peak_bytes(loaded.device, validate if case.validation else train)
    # Before training there are no optimizer states.
    parts = dict(said.evaluation, optimizer=0) if case.validation else dict(said.training)
    print(json.dumps({"estimate": sum(parts.values()) - parts["runtime"], "measured": measured, "parts": parts}))


def _project(case: Case, folder: Path) -> Project:
    model = "builtin:tiny" if case.model == "tiny" else str(_random_model(case.model, folder))
    tree: dict[str, Any] = {
        "name": "memory",
        "base": {"model": model, "quantization": "none", "weights": "packed"},
        "data": {"train": [{"source": "rows.jsonl"}], "max_length": 256, "validation": {"fraction": 0.1}},
        "training": {
            "max_steps": 2,
            "micro_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "checkpoints": 1,
            "keep_best_by": "last",
        },
        "evaluation": {"generation": {"prompts": 0}},
    }
    overrides = [
        (key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in case.settings.items()
    ]
    return project_from(tree, "benchmark", folder, overrides)


def _rows(project: Project, vocabulary: int) -> Any:
    """Rows as long as allowed, but the last of a batch shorter, so that there is padding to mask."""
    from tunery.records.rows import DataReport, Example, PreparedData

    longest, rows = project.data.max_length, project.training.micro_batch_size
    lengths = [longest if place % rows == 0 else longest - 8 for place in range(4 * rows)]
    examples = [Example(tuple(7 + i % (vocabulary - 8) for i in range(n)), (False, *[True] * (n - 1))) for n in lengths]
    report = DataReport((), (), {}, 0, 0, 0, {}, (), 0.0, {})
    return PreparedData(train=examples, validation=[], validation_conversations=[], report=report)


def _random_model(name: str, folder: Path) -> Path:
    """A model with random weights, and the built-in base's tokenizer."""
    place = folder / name
    if place.is_dir():
        return place
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import tunery

    AutoModelForCausalLM.from_config(_configs()[name]()).save_pretrained(place)
    AutoTokenizer.from_pretrained(Path(tunery.__file__).parent / "models" / "tiny").save_pretrained(place)
    return place


def _configs() -> dict[str, Callable[[], Any]]:
    from transformers import (
        Gemma2Config,
        GPT2Config,
        GPTNeoXConfig,
        LlamaConfig,
        MixtralConfig,
        OPTConfig,
        PhiConfig,
        Qwen2Config,
    )

    shape = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "max_position_embeddings": 1024}
    words = {"vocab_size": 8192, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    return {
        "llama": lambda: LlamaConfig(**shape, **words, intermediate_size=1376, num_key_value_heads=2),
        "neox": lambda: GPTNeoXConfig(**shape, **words, intermediate_size=2048),
        "opt": lambda: OPTConfig(**shape, **words, ffn_dim=2048, word_embed_proj_dim=512),
        "gpt2": lambda: GPT2Config(n_embd=512, n_layer=6, n_head=8, **words),
        "mixtral": lambda: MixtralConfig(
            **shape, **words, intermediate_size=512, num_key_value_heads=2, num_local_experts=4
        ),
        "qwen2": lambda: Qwen2Config(**shape, **words, intermediate_size=2432, num_key_value_heads=4),
        "phi": lambda: PhiConfig(**shape, **words, intermediate_size=2048),
        "gemma2": lambda: Gemma2Config(
            **shape, **words, intermediate_size=2048, num_key_value_heads=4, head_dim=64, query_pre_attn_scalar=64
        ),
    }


def _peak_bytes(device: str, work: Callable[[], None]) -> int:
    """Most bytes that tensors took while `work` ran, those that lay there before included."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return int(torch.cuda.max_memory_allocated())
    before = _tensor_bytes()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    now = peak = 0
    for event in sorted(_allocations(profile), key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return before + peak


def _allocations(profile: Any) -> list[Any]:
    return [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]


def _tensor_bytes() -> int:
    """Bytes of all storages that are alive."""
    import torch

    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.device.type != "meta":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _short(case: Case) -> str:
    words = [f"{key.rpartition('.')[2]} {value}" for key, value in case.settings.items()]
    return ", ".join([*(["validation"] if case.validation else []), *words])


if __name__ == "__main__":
    main()
