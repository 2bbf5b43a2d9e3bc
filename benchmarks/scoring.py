"""What one row a document and a kept beginning save over stock lm-eval, which runs a context again for every option.

python benchmarks/scoring.py               # about two minutes on two cores

Both ways score the same random requests on the same loaded model, in turn, three times; the fastest of each counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import tunery
from tunery.openmp import wait_briefly

BASE = Path(tunery.__file__).parent / "models" / "tiny"
# Tokens of examples that all documents share, tokens of the document's own context, options, and tokens of an option.
SHAPES = {
    "like the quickstart's": (0, 25, 4, 4),
    "like hellaswag": (0, 80, 4, 25),
    "many options": (0, 40, 20, 3),
    "5 examples, like MMLU": (400, 60, 4, 1),
    "10 examples, short options": (450, 20, 3, 2),
}


@click.command()
@click.option("--documents", default=64, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1), help="Requests at once.")
def main(documents: int, batch_size: int) -> None:
    """Time both ways, and print them with their ratio and the largest difference of a log-likelihood."""
    wait_briefly()
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    stock = HFLM(
        pretrained=model,
        tokenizer=AutoTokenizer.from_pretrained(BASE),
        batch_size=batch_size,
        softmax_dtype="float32",
    )
    table = Table(title=f"{documents} documents in fp32, {batch_size} requests at once")
    for name in ("items", "shared", "context", "options", "stock: s", "one row: s", "ratio", "difference: nats"):
        table.add_column(name, justify="left" if name == "items" else "right")
    with torch.no_grad():
        for name, (shared, context, options, length) in SHAPES.items():
            requests = _requests(documents, shared, context, options, length)
            times = _compare(model, stock, requests, batch_size)
            table.add_row(name, str(shared), str(context), f"{options} x {length}", *times)
    Console(width=110).print(table)


def _requests(
    documents: int, shared: int, context: int, options: int, length: int
) -> list[tuple[int, list[int], list[int]]]:
    drawn = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [drawn.randrange(10, 1000) for _ in range(count)]

    examples = tokens(shared)
    texts = [examples + tokens(context + drawn.randrange(-5, 6)) for _ in range(documents)]
    return [(number, text, tokens(length)) for number, text in enumerate(texts) for _ in range(options)]


def _compare(model: Any, stock: Any, requests: list[tuple[int, list[int], list[int]]], batch_size: int) -> list[str]:
    from tunery.evaluation.document_rows import grouped, rows_of
    from tunery.evaluation.shared_context import answer

    pairs = [(context, option) for _, context, option in requests]

    def one_row() -> list[float]:
        rows = rows_of([number for number, *_ in requests], pairs, stock.max_length)
        groups = grouped(rows, task=lambda _row: "one")
        found = {
            place: log for group in groups for place, log in answer(model, group, batch_size, "cpu", padding=0).items()
        }
        return [found[place][0] for place in range(len(pairs))]

    def one_by_one() -> list[float]:
        return [log for log, _ in stock._loglikelihood_tokens([(None, *pair) for pair in pairs], disable_tqdm=True)]

    times: dict[Callable[[], list[float]], float] = {}
    logs = {}
    for _ in range(3):
        for way in (one_by_one, one_row):
            began = time.perf_counter()
            logs[way] = way()
            times[way] = min(times.get(way, float("inf")), time.perf_counter() - began)
    difference = max(abs(a - b) for a, b in zip(logs[one_by_one], logs[one_row], strict=True))
    theirs, ours = times[one_by_one], times[one_row]
    return [f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.2f}", f"{difference:.1e}"]


if __name__ == "__main__":
    main()
