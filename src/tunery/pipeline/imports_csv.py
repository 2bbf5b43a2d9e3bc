"""CSV tables: one row a run, columns mapped by name or by `--column OURS=THEIRS`."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.keys import nearest
from tunery.errors import Fault, InputError

if TYPE_CHECKING:
    from tunery.tracking.imports import Imported, ImportedTask

_TEXTS = ("name", "base", "base_revision", "method", "trained_on")
_COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
_WHOLE = ("seed", "train_rows")
_ASKED = ("items", "few_shot", "version")  # of a task: world_facts/items
_FIELDS = (*_TEXTS, *_WHOLE, *_COSTS, "score", "score_stderr", "base_score")
# world_facts/acc, world_facts/acc_stderr, base/world_facts/acc; lm_eval/ as MLflow's own export has it.
_SCORE = re.compile(r"(?:metrics\.)?(?P<base>base/)?(?:lm_eval/)?(?P<task>[^/]+)/(?P<metric>[^/]+?)(?P<error>_stderr)?")
_EMPTY = ("", "-", "–", "n/a", "na", "none", "null")
_LOWER = re.compile(r"(^|_)(perplexity|loss|nll|error|bits_per_byte)", re.IGNORECASE)
_FORMS = "score, world_facts/acc, world_facts/acc_stderr, world_facts/items, base/world_facts/acc"


@dataclass(frozen=True)
class _Column:
    """Where a number of a task stands in the table; `part` is value, stderr, base, base_stderr, or one of _ASKED."""

    task: str
    metric: str
    part: str
    name: str


def read_table(file: Path, columns: Mapping[str, str], task: str | None) -> list[Imported]:
    """Every row as a run.

    Args:
        columns: Our name -> the column's; a column that bears our name needs none.
        task: What the column `score` is the score of; by default the file's name.

    Raises:
        InputError: If columns do not map, or a score is no number; all faults at once.
    """
    header, rows = _read(file)
    fields, scores = _mapped(file, header, columns, task or file.stem)
    faults: list[Fault] = []
    found = [_run(file, number, row, fields, scores, faults) for number, row in rows]
    if faults:
        raise InputError(str(file), faults)
    return [run for run in found if run is not None]


def _read(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(file), Fault(f"cannot be read ({error})", advice="Save it as UTF-8.")) from error
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = "\t" if "\t" in first else ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    rows = [(reader.line_num, {key: (value or "").strip() for key, value in row.items() if key}) for row in reader]
    if not rows:
        raise InputError(str(file), Fault("holds no rows", advice="The first line names columns, each other is a run."))
    return [name for name in (reader.fieldnames or []) if name], rows


# ---- columns


def _mapped(
    file: Path, header: Sequence[str], columns: Mapping[str, str], task: str
) -> tuple[dict[str, str], list[_Column]]:
    """Fields by our name, and the columns of scores.

    Raises:
        InputError: With every mapping that cannot be, or if no score is found.
    """
    faults = [
        Fault(f"--column {ours}={theirs}: there is no column {theirs!r}", advice=_found(header, theirs))
        for ours, theirs in columns.items()
        if theirs not in header
    ]
    faults += [
        Fault(f"--column {ours}={theirs}", f"one of {', '.join(_FIELDS)}, or {_FORMS}", ours, nearest(ours, _FIELDS))
        for ours, theirs in columns.items()
        if ours not in _FIELDS and not _SCORE.fullmatch(ours)
    ]
    if faults:
        raise InputError(str(file), faults)
    taken = set(columns.values())
    meant = {**{name: name for name in header if name not in taken}, **columns}
    fields = {ours: theirs for ours, theirs in meant.items() if ours in _FIELDS and "score" not in ours}
    scores = [column for ours, theirs in meant.items() if (column := _score_column(ours, theirs, task)) is not None]
    if not any(column.part == "value" for column in scores):
        advice = f"Say which: --column score=<column>, or --column world_facts/acc=<column>. {_found(header)}"
        raise InputError(str(file), Fault("no column is known as a score", advice=advice))
    return fields, scores


def _score_column(ours: str, theirs: str, task: str) -> _Column | None:
    plain = {"score": "value", "score_stderr": "stderr", "base_score": "base"}
    if ours in plain:
        return _Column(task, "score", plain[ours], theirs)
    found = _SCORE.fullmatch(ours)
    if found is None or found["task"] in ("delta", "train", "validation", "system", "base"):
        return None
    if found["metric"] in _ASKED:
        return _Column(found["task"], "", found["metric"], theirs)
    part = {(False, False): "value", (False, True): "stderr", (True, False): "base", (True, True): "base_stderr"}
    return _Column(found["task"], found["metric"], part[bool(found["base"]), bool(found["error"])], theirs)


def _found(header: Sequence[str], wanted: str = "") -> str:
    near = nearest(wanted, list(header)) if wanted else ""
    return f"{near} Columns found: {', '.join(header)}.".strip()


# ---- rows


def _run(
    file: Path,
    number: int,
    row: Mapping[str, str],
    fields: Mapping[str, str],
    scores: Sequence[_Column],
    faults: list[Fault],
) -> Imported | None:
    from tunery.tracking.imports import Imported, digest_of

    told = {ours: row[theirs] for ours, theirs in fields.items() if row.get(theirs, "").lower() not in _EMPTY}
    before = len(faults)
    numbers = {
        ours: value
        for ours in (*_WHOLE, *_COSTS)
        if ours in told and (value := _number(told[ours], number, fields[ours], faults)) is not None
    }
    tasks = _tasks(number, row, scores, faults)
    if len(faults) > before:
        return None
    if not tasks:
        faults.append(Fault(f"line {number}: no score", advice="Fill it in, or delete the row."))
        return None
    used = {*fields.values(), *(column.name for column in scores)}
    return Imported(
        name=told.get("name", f"{file.stem} line {number}"),
        digest=digest_of(row, sorted(fields.items()), [vars(column) for column in scores]),
        source=f"{file.name}:{number}",
        base=told.get("base", ""),
        base_revision=told.get("base_revision", ""),
        method=told.get("method", "unknown"),
        trained_on=told.get("trained_on", ""),
        seed=_whole(numbers.get("seed")),
        train_rows=_whole(numbers.get("train_rows")),
        tasks=tasks,
        settings={key: value for key, value in row.items() if key not in used and value},
        metrics={key: numbers[key] for key in _COSTS if key in numbers},
        note="A table holds no samples: intervals are only as good as the errors that it tells.",
    )


def _tasks(
    number: int, row: Mapping[str, str], scores: Sequence[_Column], faults: list[Fault]
) -> dict[str, ImportedTask]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    asked: dict[str, dict[str, object]] = {}
    for column in scores:
        text = row.get(column.name, "")
        if text.lower() in _EMPTY:
            continue
        if column.part == "version":
            asked.setdefault(column.task, {})["version"] = text
        elif (value := _number(text, number, column.name, faults)) is not None and column.part in _ASKED:
            asked.setdefault(column.task, {})["count" if column.part == "items" else column.part] = int(value)
        elif value is not None:
            found.setdefault(column.task, {}).setdefault(column.part, {})[column.metric] = value
    return {task: _task(parts, asked.get(task, {})) for task, parts in found.items() if "value" in parts}


def _task(parts: Mapping[str, Mapping[str, float]], asked: Mapping[str, object]) -> ImportedTask:
    from tunery.tracking.imports import ImportedTask

    metric = next(iter(parts["value"]))
    return ImportedTask(
        metric,
        parts["value"],
        parts.get("stderr", {}),
        parts.get("base", {}),
        parts.get("base_stderr", {}),
        conditions=asked,
        lower_is_better=frozenset(name for name in parts["value"] if _LOWER.search(name)),
    )


def _number(text: str, line: int, column: str, faults: list[Fault]) -> float | None:
    try:
        value = float(text.replace("_", "").removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    faults.append(Fault(f"line {line}, column {column!r}", "a finite number", text, "Leave the cell empty if unknown."))
    return None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
