"""Processor time of commands that train nothing: a preview, an import of a table, a promotion, a merged export.

    python benchmarks/costs.py
    python benchmarks/costs.py --source src --source ../before/src    # two builds in turn, on the same store

The quickstart is trained once, in a temporary store. Each command is a process; counted are its seconds of user and
system with those of its children, on one thread a product, so that a machine that does other things matters less.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from kept import keep, spread
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PROJECT = str(ROOT / "projects" / "quickstart")
ROWS = 250


@click.command()
@click.option("--source", "sources", multiple=True, type=click.Path(exists=True, path_type=Path), help="A build's src.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
def main(sources: tuple[Path, ...], repeats: int) -> None:
    """Measure each command in each build, print a table, and keep it."""
    builds = [source.resolve() for source in sources or (ROOT / "src",)]
    seconds: dict[tuple[str, Path], list[float]] = {}
    with TemporaryDirectory(prefix="tunery-costs-") as name:
        place = Path(name)
        table = _write_table(place)
        measured(builds[0], place, "train", "--project", PROJECT)
        for repeat in range(repeats):
            for build in builds:
                for command, words in _commands(place, table, f"{builds.index(build)}-{repeat}"):
                    seconds.setdefault((command, build), []).append(measured(build, place, *words))
    shown = Table(title="Seconds of processor, user and system: median, least, most")
    for heading in ("command", *(str(build.parent) for build in builds)):
        shown.add_column(heading)
    for command in dict.fromkeys(command for command, _ in seconds):
        found = [spread(seconds[command, build]) for build in builds]
        shown.add_row(command, *(f"{one['median']:.1f}  {one['least']:.1f} {one['most']:.1f}" for one in found))
    Console(width=120).print(shown)
    rows = [
        {"command": command, "build": builds.index(build), **spread(times)}
        for (command, build), times in seconds.items()
    ]
    print(keep("costs", rows))


def _commands(place: Path, table: Path, number: str) -> Iterator[tuple[str, list[str]]]:
    bring_in = ["import", str(table), "--project", f"imports-{number}", "--base", "acme/base", "--method", "lora"]
    new = ["--trained-on", f"rows {number}"]  # another statement is another import
    yield "train --preview 3", ["train", "--project", PROJECT, "--preview", "3"]
    yield f"import of {ROWS} rows", [*bring_in, *new]
    yield f"import of {ROWS} rows that are there", [*bring_in, *new]
    yield "promote --dry-run", ["promote", "models:/quickstart/1", "--dry-run"]
    yield (
        "export --to merged",
        ["export", "models:/quickstart/1", "--to", "merged", "--out", str(place / f"out-{number}")],
    )


def measured(build: Path, place: Path, *words: str) -> float:
    """Seconds of processor of a command and its children."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(build),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        "TUNERY_HOME": str(place / "home"),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "tunery", *words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_table(place: Path) -> Path:
    file = place / "results.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["name", "seed", "learning_rate", "rank", "quiz/acc", "quiz/acc_stderr", "facts/acc"])
        for row in range(ROWS):
            configuration, seed = divmod(row, 5)
            rate, score = f"{1e-4 * (1 + configuration):g}", 0.5 + row / 1000
            writer.writerow([f"configuration {configuration}", seed, rate, 2 ** (row % 5), score, 0.01, score / 2])
    return file


if __name__ == "__main__":
    main()
