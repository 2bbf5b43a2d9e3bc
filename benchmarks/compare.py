"""Time and memory of `tunery.compare` against plain `mlflow.search_runs` of the same runs, and how they grow.

    python benchmarks/compare.py                      # 500 and 5,000 runs, then 50 runs with 20,000 items each
    python benchmarks/compare.py --runs 500 5000 50000

Stores are made by inserting rows into the tables of MLflow's SQLite database through SQLAlchemy, since logging 50,000
runs through MLflow's client would take hours; they are read through MLflow's client alone. Each measurement is a
process of its own, so that its peak memory is its own; what the libraries take before a run is read stands beside it.
On a machine that does other things too, the processor's seconds tell more than those of the clock.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

TASKS = 5  # times value, error, base and its error: 20 metrics a run
SEEDS = 5
BIG_RUNS, BIG_ITEMS = 50, 20_000
BASE, REVISION = "acme/base", "c0ffee"


def main() -> None:
    """Make each store, measure it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="*", default=[500, 5000], metavar="N")
    parser.add_argument("--items", type=int, default=BIG_ITEMS, metavar="N", help="Of each of the 50 runs; 0: none.")
    parser.add_argument("--measure", choices=list(MEASURED), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    print(
        f"{'store':>26}  {'read by':<20} {'seconds':>8} {'of CPU':>8} {'peak MiB':>9} {'of which libraries':>19}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="tunery-compare-") as place:
        for count in options.runs:
            store(Path(place) / str(count), count, items=0)
            show(Path(place) / str(count), f"{count:,} runs, 20 metrics")
        if options.items:
            folder = Path(place) / "items"
            store(folder, BIG_RUNS, options.items)
            show(folder, f"{BIG_RUNS} runs, {options.items:,} items")


def show(folder: Path, name: str) -> None:
    """Measure one store in fresh processes, and print a line for each."""
    for how in MEASURED:
        seconds, processor, peak, before = measured(folder, how)
        print(f"{name:>26}  {how:<20} {seconds:>8.2f} {processor:>8.2f} {peak:>9.0f} {before:>19.0f}", flush=True)


def measured(folder: Path, how: str) -> tuple[float, float, float, float]:
    """Seconds, those of the processor, peak memory and memory of the libraries, of one process."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = [sys.executable, __file__, "--measure", how]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, processor, peak, before = json.loads(done.stdout.splitlines()[-1])
    return seconds, processor, peak, before


# ---- what is measured


def plain() -> None:
    """What MLflow itself offers: one table of everything."""
    import mlflow

    mlflow.search_runs(search_all_experiments=True, filter_string="tags.`tunery.kind` = 'train'", max_results=100_000)


def compared() -> None:
    """Reading, grouping, testing and ranking."""
    import tunery

    tunery.compare()


def gathered() -> None:
    """The part of it that reads: runs, and the answers of those that are tested."""
    from tunery.comparison.compare import CompareOptions, gather
    from tunery.comparison.selection import selected
    from tunery.tracking.store import connect

    gather(connect(None, "unused"), selected(()), CompareOptions(curves=False))


LIBRARIES = (
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "tunery.comparison.compare",
    "tunery.comparison.report.tables",
)
MEASURED = {"mlflow.search_runs": plain, "tunery, reading": gathered, "tunery.compare": compared}


def measure(how: str) -> None:
    """Run one of them here, libraries loaded and the database opened before the clock starts."""
    import mlflow

    for library in LIBRARIES:
        importlib.import_module(library)
    mlflow.MlflowClient().search_experiments()
    mlflow.search_runs(search_all_experiments=True, max_results=1)
    before = _peak()
    began, worked = time.perf_counter(), time.process_time()
    MEASURED[how]()
    print(json.dumps([time.perf_counter() - began, time.process_time() - worked, _peak(), before]))


def _peak() -> float:
    """Peak memory of this process in MiB; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


# ---- stores


def store(folder: Path, count: int, items: int) -> None:
    """A store with `count` runs of a training; their answers to `items` items each, if any, and the base's."""
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import create_engine

    from tunery.tracking.store import connect

    folder.mkdir(parents=True)
    opened = connect(f"sqlite:///{folder}/mlflow.db", "benchmark")
    experiment, bases = int(opened.experiment_id()), int(opened.experiment_id("tunery-base-scores"))
    rng = np.random.default_rng(0)
    tables = {"runs": models.SqlRun, "tags": models.SqlTag, "params": models.SqlParam}
    tables |= {"latest": models.SqlLatestMetric, "history": models.SqlMetric}
    engine = create_engine(f"sqlite:///{folder}/mlflow.db")
    made = (_run(number, experiment, folder, rng, items) for number in range(count))
    if items:
        made = iter([_base(bases, folder, rng, items), *made])
    while batch := list(islice(made, 1000)):
        with engine.begin() as connection:
            for name, model in tables.items():
                connection.execute(model.__table__.insert(), [row for run in batch for row in run[name]])
    engine.dispose()


def _run(number: int, experiment: int, folder: Path, rng: np.random.Generator, items: int) -> dict[str, list[Any]]:
    configuration, seed = divmod(number, SEEDS)
    right = (rng.random(items) < 0.6 + 0.0005 * configuration) if items else None
    metrics: dict[str, float] = {}
    for task in ("quiz",) if items else [f"quiz{index}" for index in range(TASKS)]:
        value = (
            float(right.mean()) if right is not None else 0.6 + 0.0001 * (configuration % 1000) + 0.01 * rng.random()
        )
        metrics |= {f"lm_eval/{task}/acc": value, f"lm_eval/{task}/acc_stderr": 0.0035}
        metrics |= {f"base/{task}/acc": 0.5, f"base/{task}/acc_stderr": 0.0035}
    tags = {
        "tunery.kind": "train", "tunery.project": "benchmark", "tunery.base": BASE, "tunery.base_revision": REVISION,
        "tunery.method": "qlora", "tunery.datasets": f"rows-{configuration % 4}",
        "mlflow.runName": f"config {configuration}",
    }  # fmt: skip
    params = {
        "cfg.base.model": BASE, "cfg.base.quantization": "nf4", "cfg.adapter.rank": str(2 ** (configuration % 6)),
        "cfg.training.learning_rate": f"{1e-4 * (1 + configuration // 24):g}", "cfg.training.seed": str(seed),
        "cfg.data.train.0.source": f"rows-{configuration % 4}.jsonl", "cfg.adapter.alpha": str(configuration),
    }  # fmt: skip
    params |= {f"task.{key.split('/')[1]}": _facts(items) for key in metrics if key.endswith("/acc") and key[0] == "l"}
    made = _rows(experiment, folder, f"config {configuration}", tags, params, metrics, number)
    if right is not None:
        _samples(folder, made["runs"][0]["run_uuid"], right, rng)
    return made


def _facts(items: int) -> str:
    known = {"version": "1.0+abc", "few_shot": 0, "limit": None, "chat_template": True, "prompt": "p", "split": "all"}
    return json.dumps({**known, "items": "same", "count": items or 1000, "metric": "acc", "counts": True})


def _base(experiment: int, folder: Path, rng: np.random.Generator, items: int) -> dict[str, list[Any]]:
    """The base's kept result, as tracking/base_scores.py keeps one."""
    right = np.zeros(items, dtype=bool)
    right[: items // 2] = True  # 0.5 exactly, as the runs say
    tags = {"tunery.kind": "base", "tunery.base": BASE, "tunery.base_revision": REVISION, "tunery.quantization": "nf4"}
    params = {"task": "quiz", "version": "1.0+abc", "few_shot": "0", "limit": "null", "chat_template": "true"}
    tags |= {"tunery.base_key": "k", "mlflow.runName": "base quiz"}
    made = _rows(experiment, folder, "base quiz", tags, params, {"lm_eval/quiz/acc": 0.5}, 0)
    _samples(folder, made["runs"][0]["run_uuid"], right, rng)
    return made


def _rows(
    experiment: int,
    folder: Path,
    name: str,
    tags: dict[str, str],
    params: dict[str, str],
    metrics: dict[str, float],
    number: int,
) -> dict[str, list[Any]]:
    run = uuid.uuid4().hex
    now = 1_700_000_000_000 + number
    latest = [
        {"key": key, "value": value, "timestamp": now, "step": 0, "is_nan": False, "run_uuid": run}
        for key, value in metrics.items()
    ]
    row = {
        "run_uuid": run, "name": name, "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
        "user_id": "", "status": "FINISHED", "start_time": now, "end_time": now, "source_version": "",
        "lifecycle_stage": "active", "deleted_time": None, "experiment_id": experiment,
        "artifact_uri": f"{folder}/artifacts/{run}",
    }  # fmt: skip
    return {
        "runs": [row],
        "tags": [{"key": key, "value": value, "run_uuid": run} for key, value in tags.items()],
        "params": [{"key": key, "value": value, "run_uuid": run} for key, value in params.items()],
        "latest": latest,
        "history": latest,
    }


def _samples(folder: Path, run: str, right: np.ndarray, rng: np.random.Generator) -> None:
    """What a run of lm-eval leaves behind: not only the two columns that a test needs."""
    import pandas as pd

    place = folder / "artifacts" / run / "samples"
    place.mkdir(parents=True)
    frame = pd.DataFrame({"item_id": _ids(len(right)), "split": "locked", "task": "quiz", "target": "an answer"})
    frame["prediction"] = np.where(right, "an answer", "another")
    frame["acc"] = right.astype(float)
    frame["loglikelihoods"] = list(rng.normal(-20, 5, (len(right), 4)))
    frame.to_parquet(place / "quiz.parquet", index=False)


def _ids(count: int) -> Iterable[str]:
    return [f"{number:016x}" for number in range(count)]


if __name__ == "__main__":
    main()
