"""What a study costs against one process a trial (a TRL script, then the lm-eval CLI): same settings, same machine.

python benchmarks/study.py                 # 6 trials of the quickstart on each side, 6 to 8 minutes on two cores
python benchmarks/study.py --trials 3
python benchmarks/study.py --pack 4          # the same, trials trained together

Both sides train the same configurations for the same steps on the same rows, and score the same dev items through the
chat template. Neither prunes, scores checkpoints, or writes answers. The study also keeps every trial in MLflow with
its curves, samples and adapter, measures validation loss, and scores the base; the scripts do none of that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from kept import keep
from rich.console import Console
from rich.table import Table

import tunery
from tunery.config.load import load_project
from tunery.config.project import Project
from tunery.openmp import wait_briefly
from tunery.records.studies import StudyRecord, TrialRow
from tunery.runs.observer import StudyObserver
from tunery.search.session import StudyOptions
from tunery.search.tune import tune

HERE = Path(__file__).parent
PACKAGE = Path(tunery.__file__).parent
BASE = str(PACKAGE / "models" / "tiny")
ROWS = HERE.parent / "projects" / "quickstart" / "data" / "facts.jsonl"
TASKS = ("world_facts", "world_comparison")
STEPS = 67

SETTINGS = [
    ("search.sampler", "random"),
    ("search.pruner", "none"),
    ("search.finalists", "0"),
    ("training.score_checkpoints", "false"),
    ("training.checkpoints", "1"),
    ("training.max_steps", str(STEPS)),
    ("evaluation.generation.prompts", "0"),
]


@click.command()
@click.option("--trials", default=6, show_default=True, type=click.IntRange(min=2), help="Trials on each side.")
@click.option("--pack", default="off", show_default=True, help="search.pack of the study.")
def main(trials: int, pack: str) -> None:
    """Time both ways, and print them with their ratio and their scores."""
    wait_briefly()
    with TemporaryDirectory(prefix="tunery-study-") as place:
        os.environ["TUNERY_HOME"] = f"{place}/home"
        project = load_project(ROWS.parents[1], [*SETTINGS, ("search.trials", str(trials)), ("search.pack", pack)])
        record, study_seconds = _study(project, Path(place))
        _save_quantised(Path(place))
        plain = [_plain(project, row, Path(place)) for row in record.trials]
    _print(record, study_seconds, plain)
    row = {"trials": trials, "pack": pack, "study": study_seconds, "processes": [seconds for seconds, _ in plain]}
    keep(f"study-quickstart-pack-{pack}", [row])


def _study(project: Project, place: Path) -> tuple[StudyRecord, float]:
    """In a process that has not loaded anything yet: its imports count, as the scripts' do."""
    began = time.monotonic()
    options = StudyOptions(storage=f"sqlite:///{place}/optuna.db", tracking_uri=f"sqlite:///{place}/mlflow.db")
    record = tune(project, options, StudyObserver())
    return record, time.monotonic() - began


def _save_quantised(place: Path) -> None:
    """A 4-bit copy of the base for lm-eval's CLI, which cannot quantise one under transformers 5; not on the clock."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, quantization_config=settings)
    model.save_pretrained(place / "quantised")
    AutoTokenizer.from_pretrained(BASE).save_pretrained(place / "quantised")


def _plain(project: Project, row: TrialRow, place: Path) -> tuple[float, float]:
    """Seconds of the script and of the CLI together, and the score that the CLI gives."""
    out = place / f"plain-{row.number}"
    settings = row.settings
    began = time.monotonic()
    _run(
        [
            *(str(HERE / "plain_trial.py"), BASE, str(ROWS), str(out)),
            *("--rank", str(settings["adapter.rank"]), "--alpha", str(project.adapter.alpha)),
            *("--learning-rate", str(settings["training.learning_rate"])),
            *("--steps", str(STEPS), "--batch", str(project.training.micro_batch_size)),
        ],
        place,
    )
    _run(
        [
            *(
                "-m",
                "lm_eval",
                "run",
                "--model",
                "hf",
                "--model_args",
                f"pretrained={place}/quantised,peft={out},dtype=float32",
            ),
            *("--tasks", *TASKS, "--include_path", str(PACKAGE / "evaluation" / "tasks")),
            *("--batch_size", str(project.evaluation.batch_size), "--apply_chat_template"),
            *("--samples", json.dumps(_dev_items(project)), "--output_path", str(out / "scores")),
            *("--device", "cpu"),
        ],
        place,
    )
    seconds = time.monotonic() - began
    (file,) = (out / "scores").rglob("results_*.json")
    return seconds, float(json.loads(file.read_text())["results"]["world_facts"]["acc,none"])


def _dev_items(project: Project) -> dict[str, list[int]]:
    from tunery.evaluation.tasks import load_tasks

    tasks = load_tasks(project.evaluation, project.folder, chat_template=True)
    return {name: list(tasks.leaves[name].chosen("dev", None, project.evaluation.dev_fraction)) for name in TASKS}


def _run(words: Sequence[str], place: Path) -> None:
    done = subprocess.run([sys.executable, *words], cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words[:4])} ... failed:\n{done.stderr[-3000:]}")


def _print(record: StudyRecord, study_seconds: float, plain: Sequence[tuple[float, float]]) -> None:
    table = Table(title="world_facts on dev items: the same settings both ways")
    for name in ("trial", "settings", "study: s", "score", "processes: s", "score"):
        table.add_column(name, justify="left" if name == "settings" else "right")
    for row, (seconds, score) in zip(record.trials, plain, strict=True):
        ours = row.metrics["lm_eval/world_facts/acc"]
        table.add_row(
            str(row.number), row.name, f"{row.seconds or 0:.1f}", f"{ours:.3f}", f"{seconds:.1f}", f"{score:.3f}"
        )
    console, processes = Console(width=120), sum(seconds for seconds, _ in plain)
    console.print(table)
    console.print(f"study, whole command: {study_seconds:.1f} s, processes: {processes:.1f} s")
    console.print(f"ratio: {processes / study_seconds:.2f}")


if __name__ == "__main__":
    main()
