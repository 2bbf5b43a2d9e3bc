"""What the quickstart's README says: base and tuned accuracy on both tasks, five seeds on each dataset, and the time.

python benchmarks/quickstart.py            # about five minutes on two cores
python benchmarks/quickstart.py --seeds 1
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from tunery.config.load import load_project
from tunery.runs.observer import Observer
from tunery.runs.report.markdown import p_value
from tunery.runs.train import train
from tunery.statistics.paired import TaskDifference, compare_tasks

PROJECTS = Path(__file__).parents[1] / "projects" / "quickstart"
TASKS = {"world_facts": "acc", "world_comparison": "acc"}


@click.command()
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="Seeds of each dataset.")
def main(seeds: int) -> None:
    """Train both quickstart projects with several seeds and print what each gained on both tasks."""
    table = Table(title="Quickstart: accuracy on the part of the world that was never trained on")
    for name in (
        "trained on",
        "seed",
        *(f"{task}: base, tuned, gain, p" for task in TASKS),
        "train seconds",
        "seconds",
    ):
        table.add_column(name, justify="left" if name == "trained on" else "right")
    with TemporaryDirectory(prefix="tunery-quickstart-") as folder:
        for row in _rows(f"sqlite:///{folder}/mlflow.db", seeds):
            table.add_row(*row)
    Console(width=150).print(table)


def _rows(uri: str, seeds: int) -> Iterator[list[str]]:
    for file in ("project.yaml", "comparison.yaml"):
        for seed in range(seeds):
            project = load_project(PROJECTS / file, [("training.seed", str(seed))])
            began = time.perf_counter()
            record = train(project, Observer(), tracking_uri=uri)
            seconds = time.perf_counter() - began
            pairs = compare_tasks(record.base, record.tuned, TASKS)
            assert record.trained is not None
            trained = f"{record.trained.train_seconds:.1f}"
            yield [project.name, str(seed), *map(_cell, pairs), trained, f"{seconds:.1f}"]


def _cell(pair: TaskDifference) -> str:
    return f"{pair.base:.3f} {pair.tuned:.3f} {pair.delta:+.3f} {p_value(pair.difference.p_value)}"


if __name__ == "__main__":
    main()
