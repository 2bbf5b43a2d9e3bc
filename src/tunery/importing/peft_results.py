"""Results of PEFT's method comparison (MetaMathQA): one JSON file an experiment.

Source: github.com/huggingface/peft, method_comparison/MetaMathQA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tunery.config.fingerprint import flatten
from tunery.errors import Fault, InputError
from tunery.importing.store import ImportedRun, ImportedTask, NotAResultFile, digest_of

_TASK, _METRIC, _SCORE = "gsm8k", "accuracy", "test accuracy"
_TEST_ITEMS = 1319  # all of GSM8K's test split, which that comparison asks
_TRAINED_ON = "MetaMathQA"
# Older files say cuda, newer ones accelerator.
_PEAK = ("accelerator_memory_max", "cuda_memory_max", "xpu_memory_max")
_CURVES = {"train loss": "train/loss", "valid accuracy": "validation/score"}
_QUANTISED = {"int4": "nf4", "int8": "int8"}
_ONE_WORD = ("seed", "model_id")  # stand elsewhere


def is_peft(tree: Any) -> bool:
    """Whether a JSON tree is a result of that comparison."""
    return isinstance(tree, dict) and all(isinstance(tree.get(key), dict) for key in ("run_info", "train_info"))


def read_peft(file: Path, tree: Mapping[str, Any]) -> ImportedRun:
    """One run from a result file.

    Raises:
        NotAResultFile: If the experiment did not end well, or is another comparison of PEFT's.
        InputError: If its score is no share.
    """
    run, train, meta = tree["run_info"], tree["train_info"], tree.get("meta_info") or {}
    last = _last(file, train)
    config = run.get("train_config") or {}
    return ImportedRun(
        name=str(run.get("experiment_name") or file.stem),
        digest=digest_of(tree),
        source=file.name,
        base=str(config.get("model_id", "")),
        base_revision=str((meta.get("model_info") or {}).get("sha") or ""),
        method=_method(run.get("peft_config"), str(config.get("dtype", ""))),
        trained_on=_TRAINED_ON,
        seed=None if config.get("seed") is None else int(config["seed"]),
        train_rows=None if last.get("train samples") is None else int(last["train samples"]),
        tasks={_TASK: _task(float(last[_SCORE]), config, meta)},
        settings=_settings(run, config),
        metrics=_costs(train),
        curves=_curves(train),
        time_ms=_milliseconds(run.get("created_at")),
        name_counts=False,
    )


def _last(file: Path, train: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of the end, which holds the test score."""
    if train.get("status") != "success":
        fault = Fault("train_info.status", "'success'", train.get("status"), "Run the experiment again.")
        raise NotAResultFile(str(file), fault)
    rows = [row for row in train.get("metrics") or [] if _SCORE in row]
    if not rows:
        there = ", ".join(sorted({key for row in train.get("metrics") or [] for key in row})) or "nothing"
        fault = Fault(f"train_info.metrics has no {_SCORE!r}; it has {there}", advice="Only MetaMathQA's can be read.")
        raise NotAResultFile(str(file), fault)
    last: Mapping[str, Any] = rows[-1]
    score = last[_SCORE]
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InputError(str(file), Fault(_SCORE, "a share from 0 to 1", score, "Run the experiment again."))
    return last


def _task(score: float, config: Mapping[str, Any], meta: Mapping[str, Any]) -> ImportedTask:
    prompt = digest_of(config.get("query_template"), config.get("generation_kwargs"))[:12]
    data = ((meta.get("dataset_info") or {}).get(_TASK) or {}).get("sha")
    conditions = {"version": f"PEFT {_TRAINED_ON}", "few_shot": 0, "chat_template": False, "prompt": prompt}
    conditions |= {"items": f"{_TASK}@{data}"[:32]} if data else {}
    if not math.isclose(
        score * _TEST_ITEMS, round(score * _TEST_ITEMS), abs_tol=1e-6
    ):  # other items: then nothing tells the error
        return ImportedTask(_METRIC, {_METRIC: score}, conditions=conditions)
    error = math.sqrt(score * (1 - score) / (_TEST_ITEMS - 1))  # as lm-eval's mean_stderr has it for 0/1 scores
    whole = {**conditions, "count": _TEST_ITEMS}
    return ImportedTask(_METRIC, {_METRIC: score}, {_METRIC: error}, conditions=whole)


def _method(config: Mapping[str, Any] | None, dtype: str) -> str:
    if not config:
        return "full"
    kind = "dora" if config.get("use_dora") else str(config.get("peft_type", "adapter")).lower()
    return f"q{kind}" if dtype in _QUANTISED and kind in ("lora", "dora") else kind


def _settings(run: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """What was set; not what is nothing, and not what stands elsewhere."""
    trained = {key: value for key, value in config.items() if key not in _ONE_WORD}
    adapter = {key: value for key, value in (run.get("peft_config") or {}).items() if value not in (None, {}, [])}
    flat = {**flatten(trained, "training"), **flatten(adapter, "adapter")}
    kept = {key: str(value) for key, value in flat.items() if value is not None}
    return {**kept, "quantization": _QUANTISED.get(str(config.get("dtype")), "none")}


def _costs(train: Mapping[str, Any]) -> dict[str, float]:
    found = {
        "train_seconds": train.get("train_time"),
        "peak_memory_bytes": next((train[key] for key in _PEAK if key in train), None),
        "trainable_parameters": train.get("num_trainable_params"),
        "model_bytes": train.get("file_size"),
    }
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _curves(train: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for theirs, ours in _CURVES.items():
        rows = [row for row in train["metrics"] if row.get(theirs) is not None and "step" in row]
        points = {int(row["step"]): float(row[theirs]) for row in rows}
        if points:
            curves[ours] = sorted(points.items())
    return curves


def _milliseconds(text: object) -> int:
    try:
        return max(0, int(datetime.fromisoformat(str(text)).timestamp() * 1000))
    except ValueError:
        return 0
