"""How much of acc_norm's gain is the line break that a chat template writes before the answer.

python benchmarks/line_break.py rows.json SmolLM2-135M-Instruct.gguf

Rows are in the alpaca format. Each item asks which of four answers belongs to an instruction; answers differ in length.
An adapter is trained on other rows. acc_norm divides c + ll by the option's length, where c is the line break's
log-likelihood; beside it stands ll / length, from the same answers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

SHORT, LONG = 20, 160  # characters of an answer
TASK = {
    "task": "answers",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{options}}",
    "doc_to_target": "right",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}


@click.command()
@click.argument("rows", type=click.Path(exists=True, path_type=Path))
@click.argument("models", nargs=-1, required=True)
@click.option("--items", default=60, show_default=True)
@click.option("--steps", default=15, show_default=True)
@click.option("--template", help="A chat template's file, for models that have none.")
def main(rows: Path, models: Sequence[str], items: int, steps: int, template: str | None) -> None:
    """Print acc_norm of base and tuned model, with the line break and without it."""
    table = Table("model", "side", "line break (nats)", "acc", "acc_norm", "without the line break")
    for model in models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            base = {"model": str(Path(model).resolve()) if Path(model).exists() else model, "quantization": "none"}
            if template:
                base["chat_template"] = str(Path(template).resolve())
            asked = _write(folder, _pairs(rows), items, {**base, "dtype": "float32"}, steps)
            for side, line in _measured(folder, asked).items():
                table.add_row(Path(model).stem, side, *line)
    Console(width=140).print(table)


def _pairs(rows: Path) -> list[tuple[str, str]]:
    """Instructions with short answers."""
    read = [(row["instruction"], row["output"]) for row in json.loads(rows.read_text()) if not row["input"]]
    return [(question, answer) for question, answer in read if SHORT <= len(answer) <= LONG]


def _write(
    folder: Path, pairs: Sequence[tuple[str, str]], items: int, base: dict[str, Any], steps: int
) -> list[dict[str, Any]]:
    """Write project, task, items and training rows; give the items."""
    asked, learned = pairs[:items], pairs[items:]
    others = [[pairs[(place + step) % len(asked)][1] for step in (7, 13, 29)] for place in range(len(asked))]
    made = [
        {"question": question, "right": 0, "options": [answer, *wrong]}
        for (question, answer), wrong in zip(asked, others, strict=True)
    ]
    _lines(folder / "items.jsonl", made)
    _lines(folder / "rows.jsonl", [{"prompt": question, "completion": answer} for question, answer in learned])
    task = {**TASK, "dataset_kwargs": {"data_files": {"test": str(folder / "items.jsonl")}}}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    project = {
        "name": "line-break",
        "base": base,
        "data": {"train": [{"source": "rows.jsonl"}], "max_length": 128, "validation": {"fraction": 0.1}},
        "training": {"max_steps": steps, "micro_batch_size": 4, "gradient_accumulation_steps": 1, "checkpoints": 1},
        "evaluation": {"tasks": ["answers"], "task_folders": ["."], "generation": {"prompts": 0}},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(project))
    return made


def _lines(file: Path, rows: Sequence[object]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _measured(folder: Path, asked: Sequence[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """By side: mean log-likelihood of the line break, acc, acc_norm, and acc_norm without it."""
    import mlflow

    import tunery
    from tunery.models.adapter_files import load_adapter
    from tunery.models.base import load_base

    store = f"sqlite:///{folder}/mlflow.db"
    project = tunery.load_project(folder)
    record = tunery.train(project, tracking_uri=store)
    loaded = load_base(project.base, folder, "cpu")
    before = _line_breaks(loaded.model, loaded.tokenizer, asked)
    mlflow.set_tracking_uri(store)
    adapter = mlflow.artifacts.download_artifacts(f"models:/{record.model_version}", dst_path=str(folder / "adapter"))
    after = _line_breaks(load_adapter(loaded, Path(adapter)), loaded.tokenizer, asked)
    return {
        "base": _scores(asked, record.base["answers"].samples["loglikelihoods"], before),
        "tuned": _scores(asked, record.tuned["answers"].samples["loglikelihoods"], after),
    }


def _line_breaks(model: Any, tokenizer: Any, asked: Sequence[dict[str, Any]]) -> list[float]:
    """Log-likelihood of the white space at each prompt's end, in nats."""
    from tunery.evaluation.lm import Scorer

    pairs = []
    for item in asked:
        turns = [{"role": "user", "content": item["question"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        pairs.append((prompt.rstrip(), prompt[len(prompt.rstrip()) :]))
    return Scorer(model, tokenizer, 8, {}, chat_template=True).of_pairs(pairs)


def _scores(
    asked: Sequence[dict[str, Any]], logliks: Sequence[Sequence[float]], breaks: Sequence[float]
) -> tuple[str, ...]:
    def share(credit: Any) -> str:
        right = [
            max(range(len(found)), key=lambda place: credit(found[place], len(item["options"][place]), space))
            == item["right"]
            for item, found, space in zip(asked, logliks, breaks, strict=True)
        ]
        return f"{sum(right)} of {len(right)}"

    return (
        f"{sum(breaks) / len(breaks):.3f}",
        share(lambda value, _length, _space: value),
        share(lambda value, length, _space: value / length),
        share(lambda value, length, space: (value - space) / length),
    )


if __name__ == "__main__":
    main()
