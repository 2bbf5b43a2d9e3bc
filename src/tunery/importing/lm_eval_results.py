"""lm-eval's result files: results_<date>.json, and samples_<task>_<date>.jsonl beside it where they were logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, InputError
from tunery.evaluation.samples import items_digest
from tunery.evaluation.task_manager import prompt_digest
from tunery.evaluation.tasks import column_name
from tunery.importing.csv_table import LOWER
from tunery.importing.lm_eval_samples import sample_files, sample_frame, together
from tunery.importing.store import ImportedRun, ImportedTask, digest_of

if TYPE_CHECKING:
    import pandas as pd

_ADAPTER_ARGUMENTS = ("peft", "delta")
_NEVER = 2**40  # seconds: no date; a store's milliseconds would overflow


def is_lm_eval(tree: Any) -> bool:
    """Whether a JSON tree is lm-eval's: results by task, and the settings that they were measured with."""
    return (
        isinstance(tree, dict)
        and isinstance(tree.get("results"), dict)
        and isinstance(tree.get("config"), dict)
        and any(key in tree for key in ("versions", "configs", "n-shot"))
    )


def read_lm_eval(file: Path, tree: Mapping[str, Any]) -> ImportedRun:
    """One run from a result file and the samples beside it.

    Raises:
        InputError: If it holds no score, or one that is no number.
    """
    samples = sample_files(file)
    frames = {task: sample_frame(path, task, tree) for task, path in samples.items() if task in tree["results"]}
    tasks = {name: _task(name, tree, frames) for name in tree["results"] if _numbers(_part(tree["results"], name))}
    _refuse_bad(file, tree, tasks)
    arguments = _arguments(tree["config"].get("model_args"))
    model = str(tree.get("model_name") or arguments.get("pretrained") or arguments.get("model") or "unknown")
    adapter = next((arguments[key] for key in _ADAPTER_ARGUMENTS if key in arguments), None)
    base = str(arguments.get("pretrained", model))
    texts, date = [path.read_bytes() for path in samples.values()], tree.get("date")
    return ImportedRun(
        name=_short_name(adapter or model),
        digest=digest_of(tree, *texts),
        source=file.name,
        base=base,
        # A result file does not say what kind of adapter it was.
        method="none" if adapter is None else "adapter",
        base_revision="" if adapter is not None else str(tree["config"].get("model_sha") or ""),
        tasks=tasks,
        settings={"model": model, **_model_settings(tree, arguments)},
        metrics=_seconds(tree),
        time_ms=int(date * 1000) if isinstance(date, int | float) and 0 < date < _NEVER else 0,
        note=_note(tree, tasks),
    )


def _refuse_bad(file: Path, tree: Mapping[str, Any], tasks: Mapping[str, ImportedTask]) -> None:
    if not tasks:
        fault = f"holds no score; its results name {', '.join(tree['results']) or 'no task'}"
        raise InputError(str(file), Fault(fault, advice="Run lm-eval to its end."))
    bad = [
        Fault(f"{name}: {metric} is {value}, but must be finite", advice="Score the model again, or leave it out.")
        for name, task in tasks.items()
        for metric, value in task.values.items()
        if metric == task.metric and not math.isfinite(value)
    ]
    if bad:
        raise InputError(str(file), bad)


# ---- scores


def _task(name: str, tree: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]) -> ImportedTask:
    row = tree["results"][name]
    keys = {key: key.partition(",") for key in _numbers(row)}
    filters = len({filter_name for _, _, filter_name in keys.values()})
    values: dict[str, float] = {}
    stderrs: dict[str, float] = {}
    for key, (plain, _, filter_name) in keys.items():
        column = column_name(plain, filter_name, filters)
        values[column] = float(row[key])
        error = _number(row.get(f"{plain}_stderr,{filter_name}"))
        if error is not None:
            stderrs[column] = error
    metric = _first_metric(name, tree, values)
    leaves = _leaves(name, tree)
    told = {key: higher for key, higher in _part(_part(tree, "higher_is_better"), name).items() if higher is not None}
    higher = [key for key in values if told.get(key.partition(".")[0], LOWER.search(key) is None)]
    return ImportedTask(
        metric=metric,
        values={key: value for key, value in values.items() if key == metric or math.isfinite(value)},
        stderrs=stderrs,
        conditions=_conditions(name, tree, leaves, frames),
        samples=together(leaves, frames),
        lower_is_better=frozenset(values.keys() - set(higher)),
        # Leaf tasks of a group that is there too are part of its score already.
        counts=not any(name in _leaves(group, tree) for group in _part(tree, "group_subtasks") if group != name),
    )


def _numbers(row: Mapping[str, Any]) -> list[str]:
    """Keys of the scores: "acc,none", not "acc_stderr,none" and not "sample_len"."""
    return [
        key
        for key, value in row.items()
        if "," in key and not key.partition(",")[0].endswith("_stderr") and _number(value, finite=False) is not None
    ]


def _number(value: object, *, finite: bool = True) -> float | None:
    """A number, or None for lm-eval's "N/A" and " "."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) or not finite else None


def _first_metric(name: str, tree: Mapping[str, Any], values: Mapping[str, float]) -> str:
    """The first that the task itself names, as `evaluation.primary` has it by default."""
    listed = _part(_part(tree, "configs"), name).get("metric_list") or []
    order = [str(entry.get("metric")) for entry in listed if isinstance(entry, dict)]
    named = (column for metric in order for column in values if column.partition(".")[0] == metric)
    return next(named, next(iter(values)))


def _leaves(name: str, tree: Mapping[str, Any]) -> list[str]:
    below = _part(tree, "group_subtasks").get(name) or []
    return [leaf for child in below for leaf in _leaves(child, tree)] if below else [name]


# ---- what must agree


def _conditions(
    name: str, tree: Mapping[str, Any], leaves: Sequence[str], frames: Mapping[str, pd.DataFrame]
) -> dict[str, object]:
    config = _part(tree, "configs").get(name)
    chat: bool | str | None = None  # older files name no template at all
    if "chat_template" in tree:
        chat = bool(tree["chat_template"])
        if chat and _part(tree, "n-shot").get(name) and tree.get("fewshot_as_multiturn") is False:
            chat = "true, solved examples in one turn"  # ours are turns of their own
    limit, version = tree["config"].get("limit"), _part(tree, "versions").get(name)
    known: dict[str, object] = {
        "version": None if version is None else str(version),
        "few_shot": _part(tree, "n-shot").get(name),
        "limit": int(limit) if isinstance(limit, float) and limit.is_integer() and limit > 1 else limit,
        "chat_template": chat,
        "prompt": prompt_digest(config) if config else None,
        "system_prompt": tree.get("system_instruction_sha"),
        "count": _count(name, tree, leaves),
    }
    samples = together(leaves, frames)
    known |= {} if samples is None else {"items": items_digest(samples["item_id"]), "count": len(samples)}
    return {key: value for key, value in known.items() if value is not None or key == "limit"}


def _count(name: str, tree: Mapping[str, Any], leaves: Sequence[str]) -> int | None:
    counts: list[Any] = [_part(_part(tree, "n-samples"), leaf).get("effective") for leaf in leaves]
    return sum(counts) if counts and all(isinstance(count, int) for count in counts) else None


def _note(tree: Mapping[str, Any], tasks: Mapping[str, ImportedTask]) -> str:
    """What a reader must know: items that were left out, and answers that are missing."""
    numbers = _part(tree, "n-samples")
    short = [
        f"{name} on {found['effective']} of {found['original']} items"
        for name in numbers
        if (found := _part(numbers, name)).get("original") and (found.get("effective") or math.inf) < found["original"]
    ]
    bare = [name for name, task in tasks.items() if task.samples is None]
    notes = [f"Scored {', '.join(short)}."] if short else []
    notes += [f"Without samples: {', '.join(bare)}."] if bare else []
    return " ".join(notes)


# ---- the model


def _arguments(told: object) -> dict[str, Any]:
    """model_args as a mapping; lm-eval writes "a=b,c=d" or a mapping."""
    if isinstance(told, Mapping):
        return dict(told)
    pairs = (part.partition("=") for part in str(told or "").split(",") if "=" in part)
    return {key.strip(): value for key, _, value in pairs}


def _model_settings(tree: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    known = {key: str(value) for key, value in arguments.items() if key != "pretrained"}
    bits = "nf4" if arguments.get("bnb_4bit_quant_type") == "nf4" else "fp4"
    four, eight = (str(arguments.get(f"load_in_{number}bit")).lower() in ("true", "1") for number in (4, 8))
    known["quantization"] = bits if four else "int8" if eight else "none"
    known["lm_eval"] = str(tree.get("lm_eval_version", ""))
    return known


def _seconds(tree: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {"evaluation_seconds": float(tree["total_evaluation_time_seconds"])}
    except (KeyError, TypeError, ValueError):
        return {}


def _short_name(model: str) -> str:
    """A hub id as it is; of a path its last part."""
    return Path(model).name if model.startswith((".", "/", "~")) or model.count("/") > 1 else model


def _part(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the file; null says as little as a part that is missing."""
    found: Mapping[str, Any] = tree.get(key) or {}
    return found
