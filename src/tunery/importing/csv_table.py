"""CSV tables: one row a run, columns mapped by name or by `--column OURS=THEIRS`."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.fields import nearest
from tunery.errors import Fault, InputError
from tunery.importing.faults import NotAResultFile

if TYPE_CHECKING:
    from tunery.importing.store import ImportedRun, ImportedTask

_EMPTY = ("", "-", "–", "n/a", "na", "none", "null")


def read_table(file: Path, columns: Mapping[str, str], task: str | None) -> list[ImportedRun]:
    """Every row as a run.

    Args:
        columns: Our name -> the column's; a column that bears our name needs none.
        task: What the column `score` is the score of; by default the file's name.

    Raises:
        NotAResultFile: If it cannot be read, or columns do not map.
        InputError: If rows do not fit the heading, or a number breaks its rule; all faults at once.
    """
    header, lines = _read(file)
    fields, scores = columns_of(file, [name for name in header if name], columns, task or file.stem)
    faults = _misshapen(header, lines)
    if faults:
        raise InputError(str(file), faults)
    found = [_run(file, number, _row(header, cells), fields, scores, faults) for number, cells in lines]
    if faults:
        raise InputError(str(file), faults)
    return _told_apart([run for run in found if run is not None])


def _read(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The heading, and each line with its number."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = "\t" if "\t" in first else ";" if first.count(";") > first.count(",") else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        advice = "Save it as a table in UTF-8: the first line names columns, each other is a run."
        raise NotAResultFile(str(file), Fault(f"cannot be read ({error})", advice=advice)) from error
    if len(lines) < 2:
        raise NotAResultFile(
            str(file), Fault("holds no rows", advice="The first line names columns, each other is a run.")
        )
    return lines[0][1], lines[1:]


def _row(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    known = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
    return {name: known.get(name, "") for name in header if name}


def _misshapen(header: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]]) -> list[Fault]:
    """Lines and columns of which a part would be lost."""
    faults = [
        Fault(f"{times} columns are called {name!r}", advice="Rename or delete all but one.")
        for name, times in Counter(header).items()
        if name and times > 1
    ]
    return faults + [
        Fault(
            f"line {number} has {len(cells)} cells, the heading {len(header)}", advice="Quote cells that hold a comma."
        )
        for number, cells in lines
        if any(cell.strip() for cell in cells[len(header) :])
    ]


def _told_apart(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """Rows that are equal to the last cell are as many runs; their digests count them."""
    from tunery.importing.store import digest_of

    seen: Counter[str] = Counter()
    found = []
    for run in runs:
        times = seen[run.digest]
        seen[run.digest] += 1
        found.append(replace(run, digest=digest_of(run.digest, times)) if times else run)
    return found


def _run(
    file: Path,
    number: int,
    row: Mapping[str, str],
    fields: Mapping[str, str],
    scores: Sequence[Column],
    faults: list[Fault],
) -> ImportedRun | None:
    from tunery.importing.store import ImportedRun, digest_of

    told = {ours: row[theirs] for ours, theirs in fields.items() if row.get(theirs, "").lower() not in _EMPTY}
    before = len(faults)
    numbers = {
        ours: value
        for ours in (*WHOLE, *COSTS)
        if ours in told
        and (value := _number(told[ours], number, fields[ours], NATURAL if ours in WHOLE else ANY, faults)) is not None
    }
    tasks = _tasks(number, row, scores, faults)
    if len(faults) > before:
        return None
    if not tasks:
        faults.append(Fault(f"line {number}: no score", advice="Fill it in, or delete the row."))
        return None
    used = {*fields.values(), *(column.name for column in scores)}
    return ImportedRun(
        name=told.get("name", f"{file.stem} line {number}"),
        digest=digest_of(row, sorted(fields.items()), [vars(column) for column in scores]),
        source=f"{file.name}:{number}",
        base=told.get("base", ""),
        base_revision=told.get("base_revision", ""),
        method=_method(row.get(fields.get("method", ""), "")),
        trained_on=told.get("trained_on", ""),
        seed=_whole(numbers.get("seed")),
        train_rows=_whole(numbers.get("train_rows")),
        tasks=tasks,
        settings={key: value for key, value in row.items() if key not in used and value},
        metrics={key: numbers[key] for key in COSTS if key in numbers},
        note="A table holds no samples: intervals are only as good as the errors that it tells.",
        name_counts="name" in told,
    )


def _method(told: str) -> str:
    """`none` is a word here, of a model that was not trained, and no empty cell."""
    if told.lower() == "none":
        return "none"
    return "unknown" if told.lower() in _EMPTY else told


def _tasks(
    number: int, row: Mapping[str, str], scores: Sequence[Column], faults: list[Fault]
) -> dict[str, ImportedTask]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    asked: dict[str, dict[str, object]] = {}
    for column in scores:
        text = row.get(column.name, "")
        if text.lower() in _EMPTY:
            continue
        if column.part == "version":
            asked.setdefault(column.task, {})["version"] = text
        elif (value := _number(text, number, column.name, column.rule, faults)) is not None and column.part in ASKED:
            asked.setdefault(column.task, {})["count" if column.part == "items" else column.part] = int(value)
        elif value is not None:
            found.setdefault(column.task, {}).setdefault(column.part, {})[column.metric] = value
    lower = {(one.task, one.metric) for one in scores if one.part == "value" and LOWER.search(one.measures)}
    return {
        task: _task(parts, asked.get(task, {}), frozenset(name for name in parts["value"] if (task, name) in lower))
        for task, parts in found.items()
        if "value" in parts
    }


def _task(parts: Mapping[str, Mapping[str, float]], asked: Mapping[str, object], lower: frozenset[str]) -> ImportedTask:
    from tunery.importing.store import ImportedTask

    metric = next(iter(parts["value"]))
    return ImportedTask(
        metric,
        parts["value"],
        parts.get("stderr", {}),
        parts.get("base", {}),
        parts.get("base_stderr", {}),
        conditions=asked,
        lower_is_better=lower,
    )


def _number(text: str, line: int, column: str, rule: Rule, faults: list[Fault]) -> float | None:
    """The cell's number; percent where it or the heading says so."""
    try:
        value = float(text.replace("_", "").removesuffix("%")) / (100 if "%" in text or "%" in column else 1)
    except ValueError:
        value = math.nan
    for wanted, holds in (ANY, rule):
        if not holds(value):
            place = f"line {line}, column {column!r}"
            faults.append(Fault(place, wanted, text, "Leave the cell empty if unknown."))
            return None
    return value


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


_TEXTS = ("name", "base", "base_revision", "method", "trained_on")
COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
WHOLE = ("seed", "train_rows")
ASKED = ("items", "few_shot", "version")  # of a task: world_facts/items
_FIELDS = (*_TEXTS, *WHOLE, *COSTS, "score", "score_stderr", "base_score")
# world_facts/acc, world_facts/acc_stderr, base/world_facts/acc; lm_eval/ as MLflow's own export has it.
_SCORE = re.compile(r"(?:metrics\.)?(?P<base>base/)?(?:lm_eval/)?(?P<task>[^/]+)/(?P<metric>[^/]+?)(?P<error>_stderr)?")
LOWER = re.compile(
    r"(?<![a-z])(perplexity|ppl|loss|nll|errors?|bits_per_byte|wer|cer|mae|mse|rmse|brier|ece)(?![a-z])", re.IGNORECASE
)
_SHARE = re.compile(r"(?<![a-z])(acc|accuracy|exact_match|pass@\d+)(?![a-z])", re.IGNORECASE)
_FORMS = "score, world_facts/acc, world_facts/acc_stderr, world_facts/items, base/world_facts/acc"

Rule = tuple[str, Callable[[float], bool]]
ANY: Rule = ("a finite number", math.isfinite)
NATURAL: Rule = ("a whole number of 0 or more", lambda value: value >= 0 and value.is_integer())
_ERROR: Rule = ("a number of 0 or more", lambda value: value >= 0)
_OF_ONE: Rule = ("from 0 to 1, or written with %", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class Column:
    """Where a number of a task stands in the table; `part` is value, stderr, base, base_stderr, or one of ASKED."""

    task: str
    metric: str
    part: str
    name: str

    @property
    def measures(self) -> str:
        """The metric in words: the table's own where ours is just "score"."""
        return self.name.rpartition("/")[2] if self.metric == "score" else self.metric

    @property
    def rule(self) -> Rule:
        """What its numbers must be: 71.2 beside another run's 0.71 would win every comparison."""
        if self.part in ASKED:
            return NATURAL
        if _SHARE.search(self.measures):
            return _OF_ONE
        return _ERROR if self.part.endswith("stderr") else ANY


def columns_of(
    file: Path, header: Sequence[str], columns: Mapping[str, str], task: str
) -> tuple[dict[str, str], list[Column]]:
    """Fields by our name, and the columns of scores.

    Raises:
        NotAResultFile: With every mapping that cannot be, or if no score is found.
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
        raise NotAResultFile(str(file), faults)
    taken = set(columns.values())
    meant = {**{name: name for name in header if name not in taken}, **columns}
    fields = {ours: theirs for ours, theirs in meant.items() if ours in _FIELDS and "score" not in ours}
    scores = [column for ours, theirs in meant.items() if (column := _score_column(ours, theirs, task)) is not None]
    if not any(column.part == "value" for column in scores):
        advice = f"Say which: --column score=<column>, or --column world_facts/acc=<column>. {_found(header)}"
        raise NotAResultFile(str(file), Fault("no column is known as a score", advice=advice))
    places = [(one.task, one.metric, one.part) for one in scores]
    twice = [one for one, place in zip(scores, places, strict=True) if places.count(place) > 1]
    if twice:
        names = ", ".join(repr(one.name) for one in twice)
        raise NotAResultFile(
            str(file), Fault(f"the columns {names} hold one number twice", advice="Delete all but one.")
        )
    return fields, scores


def _score_column(ours: str, theirs: str, task: str) -> Column | None:
    plain = {"score": "value", "score_stderr": "stderr", "base_score": "base"}
    if ours in plain:
        return Column(task, "score", plain[ours], theirs)
    found = _SCORE.fullmatch(ours)
    if found is None or found["task"] in ("delta", "train", "validation", "system", "base"):
        return None
    if found["metric"] in ASKED:
        return Column(found["task"], "", found["metric"], theirs)
    part = {(False, False): "value", (False, True): "stderr", (True, False): "base", (True, True): "base_stderr"}
    return Column(found["task"], found["metric"], part[bool(found["base"]), bool(found["error"])], theirs)


def _found(header: Sequence[str], wanted: str = "") -> str:
    near = nearest(wanted, list(header)) if wanted else ""
    return f"{near} Columns found: {', '.join(header)}.".strip()
