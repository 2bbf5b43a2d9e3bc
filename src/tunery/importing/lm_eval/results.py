"""lm-eval's result files: results_<date>.json, and samples_<task>_<date>.jsonl beside it where they were logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, InputError
from tunery.evaluation.tasks import column_name
from tunery.importing.csv_table import LOWER
from tunery.importing.lm_eval.conditions import conditions
from tunery.importing.lm_eval.groups import below, children, leaves
from tunery.importing.lm_eval.model import ScoredModel, scored_model
from tunery.importing.lm_eval.samples import disagreement, sample_files, sample_frame, together
from tunery.importing.store import ImportedRun, ImportedTask, digest_of

if TYPE_CHECKING:
    import pandas as pd

# Not scores: words, counts, and what `--predict_only` writes instead of a score, 999.
_NO_METRICS = ("alias", "name", "samples", "sample_len", "sample_count", "bypass")
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
    samples, groups, model = sample_files(file, tree), children(tree), scored_model(tree)
    found = {task: sample_frame(path, task, tree) for task, path in samples.items() if task in tree["results"]}
    foreign = {task: why for task, frame in found.items() if (why := _disagreement(task, tree, frame)) is not None}
    frames = {task: frame for task, frame in found.items() if task not in foreign}
    scored = [name for name in tree["results"] if _scores(_part(tree["results"], name))]
    tasks = {name: _task(name, tree, groups, frames) for name in scored}
    _refuse_bad(file, tree, tasks)
    # The outermost group that has a score stands for all below it, however deep: they are part of it already.
    parts = {one for name in scored for one in below(name, groups)}
    texts, date = [path.read_bytes() for path in samples.values()], tree.get("date")
    return ImportedRun(
        name=model.name,
        digest=digest_of(tree, *texts),
        source=file.name,
        base=model.base,
        # A result file does not say what kind of adapter it was.
        method="none" if model.adapter is None else "adapter",
        base_revision=model.revision,
        tasks={name: replace(task, counts=name not in parts) for name, task in tasks.items()},
        settings=model.settings,
        metrics=_seconds(tree),
        time_ms=int(date * 1000) if isinstance(date, int | float) and 0 < date < _NEVER else 0,
        note=_note(tree, tasks, groups, model, foreign),
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


def _task(
    name: str, tree: Mapping[str, Any], groups: Mapping[str, Sequence[str]], frames: Mapping[str, pd.DataFrame]
) -> ImportedTask:
    scores, tasks = _scores(_part(tree["results"], name)), leaves(name, groups)
    values = _values(scores)
    stderrs = {column_name(*key, _filters(scores)): error for key, (_, error) in scores.items() if error is not None}
    metric = _first_metric(tasks, tree, values)
    told = {key: higher for key, higher in _part(_part(tree, "higher_is_better"), name).items() if higher is not None}
    higher = [key for key in values if told.get(key.partition(".")[0], LOWER.search(key) is None)]
    samples = together(tasks, frames)
    return ImportedTask(
        metric=metric,
        values={key: value for key, value in values.items() if key == metric or math.isfinite(value)},
        stderrs={} if _is_wrong(name, tree, groups) else stderrs,
        conditions=conditions(name, tree, tasks, samples),
        samples=samples,
        lower_is_better=frozenset(values.keys() - set(higher)),
    )


def _disagreement(task: str, tree: Mapping[str, Any], frame: pd.DataFrame) -> str | None:
    count = _part(_part(tree, "n-samples"), task).get("effective")
    return disagreement(frame, _values(_scores(_part(tree["results"], task))), count)


_Found = Mapping[tuple[str, str], tuple[float, float | None]]
"""Value and standard error, by metric and filter."""


def _filters(scores: _Found) -> int:
    return len({filter_name for _, filter_name in scores})


def _values(scores: _Found) -> dict[str, float]:
    """Values by the metric's name in samples and in our own runs."""
    return {column_name(*key, _filters(scores)): value for key, (value, _) in scores.items()}


def _scores(row: Mapping[str, Any]) -> _Found:
    """Value and standard error of each metric and filter.

    A key is "acc,none" beside "acc_stderr,none"; before 0.4 it was "acc" beside "acc_stderr", without a filter.
    """
    old = "alias" not in row and not any("," in key for key in row)
    keys = {key: ((key, "none") if old else tuple(key.split(",", 1))) for key in row if old or "," in key}
    return {
        (metric, filter_name): (
            value,
            _number(row.get(f"{metric}_stderr" if old else f"{metric}_stderr,{filter_name}")),
        )
        for key, (metric, filter_name) in keys.items()
        if metric not in _NO_METRICS and not metric.endswith("_stderr")
        if (value := _number(row[key], finite=False)) is not None
    }


def _number(value: object, *, finite: bool = True) -> float | None:
    """A number, or None for what lm-eval writes where there is none: "N/A" and " "."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) or not finite else None


def _first_metric(tasks: Sequence[str], tree: Mapping[str, Any], values: Mapping[str, float]) -> str:
    """The first that the task itself names, as `evaluation.primary` has it by default; a group's tasks name it.

    lm-eval 0.4.2 to 0.4.4 wrote a group's metrics in an order that changed from run to run.
    """
    listed = [entry for task in tasks for entry in _part(_part(tree, "configs"), task).get("metric_list") or []]
    order = [str(entry.get("metric")) for entry in listed if isinstance(entry, dict)]
    named = (column for metric in order for column in values if column.partition(".")[0] == metric)
    return next(named, next(iter(values)))


def _is_wrong(name: str, tree: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether this is the error of a group from lm-eval 0.4.0 or 0.4.1, where mmlu had 0.1186 instead of 0.0040."""
    return "group_subtasks" not in tree and bool(groups.get(name))


def _note(
    tree: Mapping[str, Any],
    tasks: Mapping[str, ImportedTask],
    groups: Mapping[str, Sequence[str]],
    model: ScoredModel,
    foreign: Mapping[str, str],
) -> str:
    """What a reader must know: items that were left out, answers that are missing, and what was not believed.

    Args:
        foreign: Why answers were not taken, by task.
    """
    numbers = _part(tree, "n-samples")
    short = [
        f"{name} on {found['effective']} of {found['original']} items"
        for name in numbers
        if (found := _part(numbers, name)).get("original") and (found.get("effective") or math.inf) < found["original"]
    ]
    bare = [name for name, task in tasks.items() if task.samples is None]
    wrong = [name for name in tasks if _is_wrong(name, tree, groups)]
    notes = [f"Scored {', '.join(short)}."] if short else []
    notes += [f"Without samples: {', '.join(bare)}."] if bare else []
    notes += [f"Its samples of {name} are of something else: {why}." for name, why in foreign.items()]
    notes += [f"Without the errors of {', '.join(wrong)}: lm-eval 0.4.0 and 0.4.1 got those of groups wrong."] * bool(
        wrong
    )
    notes += ["The file tells only which server answered, not which model: name it with --base."] * model.is_served
    return " ".join(notes)


# ---- the rest


def _seconds(tree: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {"evaluation_seconds": float(tree["total_evaluation_time_seconds"])}
    except (KeyError, TypeError, ValueError):
        return {}


def _part(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the file; null says as little as a part that is missing."""
    found: Mapping[str, Any] = tree.get(key) or {}
    return found
