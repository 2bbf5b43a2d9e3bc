"""lm-eval's samples_<task>_<date>.jsonl: every item with its answer, named as our own evaluation names it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, InputError
from tunery.evaluation.items import item_ids, passages_of, split_of
from tunery.evaluation.tasks import column_name

if TYPE_CHECKING:
    import pandas as pd

_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
_MEANS = ("acc", "acc_norm", "exact_match")  # metrics that are means over items in every task
_ROUNDING = 1e-4
# Of a sample; a list of older files has the target as a number, where it is an option's.
_NO_METRICS = (
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "doc_hash",
    "prompt_hash",
    "target_hash",
)
_DEV_FRACTION = 0.5  # evaluation.dev_fraction by default: samples are split as those of our own runs


def sample_files(file: Path, tree: Mapping[str, Any]) -> dict[str, Path]:
    """By task: files of the same date, or all where the result file has none and is alone.

    lm-eval 0.4.0 to 0.4.2 wrote no date, and the model's arguments in place of "samples".
    """
    found = _DATE.search(file.stem)
    ending = f"_{found.group(1)}" if found else ""
    alone = ending or len(list(file.parent.glob("*results*.json"))) == 1
    paths = sorted(file.parent.glob(f"samples_*{ending}.jsonl")) if alone else []
    arguments = tree["config"].get("model_args")
    if paths or found or not isinstance(arguments, str):
        return {_DATE.sub("", path.stem).removeprefix("samples_"): path for path in paths}
    named = re.sub("/|=", "__", arguments)
    old = {task: file.parent / f"{named}_{task}.jsonl" for task in tree.get("configs") or {}}
    return {task: path for task, path in old.items() if path.is_file()}


def together(leaves: Sequence[str], frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The items of all leaf tasks; None where one has no samples."""
    import pandas as pd

    if not all(leaf in frames for leaf in leaves):
        return None
    return pd.concat([frames[leaf] for leaf in leaves], ignore_index=True)


def sample_frame(path: Path, task: str, tree: Mapping[str, Any]) -> pd.DataFrame:
    """One row an item, named as our own evaluation names it."""
    import pandas as pd

    config = (tree.get("configs") or {}).get(task) or {}
    rows = _rows(path)
    _name_filters(path, rows, config)
    logged = [rows[number][0] for number in sorted(rows)]
    documents = [sample["doc"] for sample in logged]
    targets = [_target(sample, config) for sample in logged]
    names = item_ids(task, documents, targets)
    frame = pd.DataFrame({"item_id": names, "split": [split_of(name, _DEV_FRACTION) for name in names], "task": task})
    passages = passages_of(documents)
    if passages:
        frame["passage"] = passages
    frame["target"] = [str(target) for target in targets]
    filters = len({sample.get("filter", "none") for found in rows.values() for sample in found})
    metrics = [_metrics(rows[number], filters) for number in sorted(rows)]
    return pd.concat([frame, pd.DataFrame(metrics)], axis=1)


def disagreement(samples: pd.DataFrame, values: Mapping[str, float], count: int | None) -> str | None:
    """Why these are not the answers that a task's scores were made of; None if they may be.

    A file may be cut off, or of an earlier run in the same folder.

    Args:
        values: The task's scores, by metric.
        count: Items that were scored; None if unknown.
    """
    if count is not None and len(samples) != count:
        return f"they are {len(samples)} of {count} items"
    for metric, value in values.items():
        if metric.partition(".")[0] in _MEANS and metric in samples:
            mean = float(samples[metric].mean())
            if not abs(mean - value) < _ROUNDING:
                return f"their {metric} is {mean:.4f}, not {value:.4f}"
    return None


def _rows(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Lines by document: a task with several filters has one for each."""
    rows: dict[int, list[dict[str, Any]]] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        advice = "Log the samples again, or move the file away: the scores stand without it."
        raise InputError(str(path), Fault(f"cannot be read ({error})", advice=advice)) from error
    if text.lstrip().startswith("["):  # lm-eval 0.4.0 to 0.4.2: one JSON list, under the same suffix
        return _by_document(path, text)
    # Not splitlines(): it cuts at U+2028, U+2029 and U+0085 too, which may stand inside a text of JSON.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
            rows.setdefault(sample["doc_id"], []).append(sample)
            sample["doc"], sample["target"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            fault = Fault("is no sample of lm-eval: doc_id, doc and target are wanted", advice="Log them again.")
            raise InputError(f"{path}:{number}", fault) from error
    return rows


def _by_document(path: Path, text: str) -> dict[int, list[dict[str, Any]]]:
    rows: dict[int, list[dict[str, Any]]] = {}
    try:
        for sample in json.loads(text):
            rows.setdefault(sample["doc_id"], []).append(sample)
            sample["doc"], sample["target"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fault = Fault("is no list of lm-eval's samples: doc_id, doc and target are wanted", advice="Log them again.")
        raise InputError(str(path), fault) from error
    return rows


def _name_filters(path: Path, rows: Mapping[int, list[dict[str, Any]]], config: Mapping[str, Any]) -> None:
    """Until 0.4.6 a line did not name its filter: a document's lines are in the order of the task's filters."""
    names = [str(entry.get("name")) for entry in config.get("filter_list") or [] if isinstance(entry, Mapping)]
    for samples in rows.values():
        if len(samples) < 2 or any("filter" in sample for sample in samples):
            continue
        if len(names) != len(samples):
            rule = f"as many samples of a document as the task has filters ({len(names)})"
            advice = "Log them again, or move the file away: the scores stand without it."
            raise InputError(str(path), Fault(f"document {samples[0]['doc_id']}", rule, len(samples), advice))
        for name, sample in zip(names, samples, strict=True):
            sample["filter"] = name


def _metrics(samples: Sequence[Mapping[str, Any]], filters: int) -> dict[str, float]:
    return {
        column_name(metric, sample.get("filter", "none"), filters): float(sample[metric])
        for sample in samples
        for metric in sample.get("metrics")
        or [key for key in sample if key not in _NO_METRICS]  # older files list none
        if isinstance(sample.get(metric), bool | int | float)
    }


def _target(sample: Mapping[str, Any], config: Mapping[str, Any]) -> object:
    """The target as the task gives it; lm-eval writes it as text, and an item's name depends on its type."""
    text, where = sample["target"], config.get("doc_to_target")
    document = sample["doc"]
    if isinstance(where, str) and isinstance(document, Mapping) and where in document:
        return document[where]
    if isinstance(where, int) or not isinstance(text, str):
        return where if isinstance(where, int) else text
    # lm-eval's own rule for a template's text: the number of an option, or a list.
    if (text.isdigit() and config.get("doc_to_choice") is not None) or (text.startswith("[") and text.endswith("]")):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text
    return text
