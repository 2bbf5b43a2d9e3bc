"""CSV tables: one row a run, columns mapped by name or by `--column OURS=THEIRS`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, LiteralString

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from tunery.config.fields import nearest
from tunery.errors import Fault, InputError
from tunery.importing.store import ImportedRun, ImportedTask, NotAResultFile, digest_of
from tunery.reporting.text import settings_text

if TYPE_CHECKING:
    import pandas as pd

_EMPTY = ("", "-", "–", "n/a", "na", "none", "null")
_LINE_BREAK = r"\r\n|\r|\n"
_BEYOND = "\0"  # between cells that are beyond the heading


def _number(cell: str, *, rule: LiteralString = "a number", low: float = -math.inf, high: float = math.inf) -> float:
    try:
        value = float(cell.replace("_", "").removesuffix("%")) / (100 if "%" in cell else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PydanticCustomError("number", "a finite number")
    if not low <= value <= high:
        raise PydanticCustomError("range", rule)
    return value


def _whole(cell: str) -> int:
    value = _number(cell)
    if value < 0 or not value.is_integer():
        raise PydanticCustomError("whole", "a whole number of 0 or more")
    return int(value)


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
_NUMBER, _WHOLE = TypeAdapter(Number), TypeAdapter(Whole)
# 71.2 beside another run's 0.71 would win every comparison.
_share = partial(_number, rule="from 0 to 1, or written with %", low=0, high=1)
_SHARE = TypeAdapter(Annotated[float, BeforeValidator(_share)])
_ERROR = TypeAdapter(Annotated[float, BeforeValidator(partial(_number, rule="a number of 0 or more", low=0))])


class TableRow(BaseModel):
    """What a row says of its run, beside scores and settings; None if unknown."""

    name: str | None = None
    base: str = ""
    base_revision: str = ""
    method: str = "unknown"
    trained_on: str = ""
    seed: Whole | None = None
    train_rows: Whole | None = None
    train_seconds: Number | None = None
    peak_memory_bytes: Number | None = None
    trainable_parameters: Number | None = None
    model_bytes: Number | None = None
    energy_joules: Number | None = None


_COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
_FIELDS = (*TableRow.model_fields, "score", "score_stderr", "base_score")
_CONDITIONS = ("items", "few_shot", "version")  # of a task: world_facts/items
# world_facts/acc, world_facts/acc_stderr, base/world_facts/acc; lm_eval/ as MLflow's own export has it.
_SCORE = re.compile(r"(?:metrics\.)?(?P<base>base/)?(?:lm_eval/)?(?P<task>[^/]+)/(?P<metric>[^/]+?)(?P<error>_stderr)?")
LOWER = re.compile(
    r"(?<![a-z])(perplexity|ppl|loss|nll|errors?|bits_per_byte|wer|cer|mae|mse|rmse|brier|ece)(?![a-z])", re.IGNORECASE
)
_ACCURACY = re.compile(r"(?<![a-z])(acc|accuracy|exact_match|pass@\d+)(?![a-z])", re.IGNORECASE)
_FORMS = "score, world_facts/acc, world_facts/acc_stderr, world_facts/items, base/world_facts/acc"


@dataclass(frozen=True)
class Column:
    """A column about a task. `part` is value, stderr, base, base_stderr, items, few_shot or version."""

    task: str
    metric: str
    part: str
    name: str

    @property
    def measures(self) -> str:
        """The metric in words: the table's own where ours is just "score"."""
        return self.name.rpartition("/")[2] if self.metric == "score" else self.metric

    @property
    def type(self) -> TypeAdapter[Any]:
        """What its numbers must be."""
        if self.part in _CONDITIONS:
            return _WHOLE
        if _ACCURACY.search(self.measures):
            return _SHARE
        return _ERROR if self.part.endswith("stderr") else _NUMBER


def read_table(file: Path, columns: Mapping[str, str], task: str | None, repeats: bool = False) -> list[ImportedRun]:
    """Every row as a run.

    Args:
        file: The table, in UTF-8; cells are separated by commas, semicolons or tabs.
        columns: Our name -> the column's; a column that bears our name needs none.
        task: What the column `score` is the score of; by default the file's name.
        repeats: Whether rows of equal settings are repetitions, which no column numbers.

    Raises:
        NotAResultFile: If it cannot be read, or columns do not map.
        InputError: If rows do not fit the heading, or a number breaks its rule; all faults at once.
    """
    header, lines = _read(file)
    fields, scores = columns_of(file, [name for name in header if name], columns, task or file.stem)
    faults = _misshapen(header, lines)
    if faults:
        raise InputError(str(file), faults)
    found: list[ImportedRun] = []
    seen: Counter[str] = Counter()
    for number, *cells in lines.itertuples(name=None):
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
        run = _run(file, number, row, fields, scores, faults)
        if run is not None:
            # Rows that are equal to the last cell are as many runs; their digests count them.
            times = seen[run.digest]
            seen[run.digest] += 1
            found.append(replace(run, digest=digest_of(run.digest, times)) if times else run)
    if repeats and "seed" in fields:
        told = f"--repeats: the column {fields['seed']!r} numbers the repetitions"
        faults.append(Fault(told, advice="Leave --repeats out."))
    if faults:
        raise InputError(str(file), faults)
    return _numbered(found) if repeats else found


def _numbered(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """The runs with seeds: those that differ in nothing but their scores are numbered in the order of the file.

    They are other runs than those of the same rows each for itself, and have other digests.
    """
    seen: Counter[tuple[object, ...]] = Counter()
    numbered = []
    for run in runs:
        rows = {} if run.train_rows is None else {"rows": str(run.train_rows)}
        settings = {**rows, **run.settings}
        # A name of our own, "results line 17", says nothing of a configuration.
        name = run.name if run.name_counts else " ".join([run.method, settings_text(settings)]).strip()
        told = (name, run.base, run.base_revision, run.trained_on, *sorted(settings.items()))
        digest = digest_of(run.digest, "repeats")
        numbered.append(replace(run, name=name, seed=seen[told], settings=settings, digest=digest))
        seen[told] += 1
    return numbered


def _read(file: Path) -> tuple[list[str], pd.DataFrame]:
    """The heading, and all other lines by number as they are written; a last column holds cells beyond the heading."""
    import pandas as pd

    advice = "The first line names columns, each other is a run."
    try:
        text = file.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        sep = "\t" if "\t" in first else ";" if first.count(";") > first.count(",") else ","
        # Nothing is guessed: '007' stays '007', and an empty cell is an empty text.
        read: Any = partial(pd.read_csv, sep=sep, header=None, dtype=str, keep_default_na=False, engine="python")
        header = list(read(StringIO(text, newline=""), nrows=1).iloc[0])
        width = len(header)
        table = read(
            StringIO(text, newline=""), names=range(width + 1), index_col=False, skip_blank_lines=False,
            on_bad_lines=lambda cells: [*cells[:width], _BEYOND.join(cells[width:])],
        )  # fmt: skip
    except pd.errors.EmptyDataError:
        header, table = [], pd.DataFrame()
    except (OSError, ValueError) as error:
        fault = Fault(f"cannot be read ({error})", advice=f"Save it as a table in UTF-8. {advice}")
        raise NotAResultFile(str(file), fault) from error
    written = table.notna().any(axis=1).to_numpy()  # an empty line has no cell, not even an empty one
    table = table.fillna("")
    # A line's number is that of its end, as csv.reader counts: a cell may hold line breaks.
    breaks = table.apply(lambda column: column.str.count(_LINE_BREAK)).sum(axis=1).cumsum()
    lines = table.set_axis(table.index + 1 + breaks)[written].iloc[1:]
    if not len(lines):
        raise NotAResultFile(str(file), Fault("holds no rows", advice=advice))
    return header, lines


def _misshapen(header: Sequence[str], lines: pd.DataFrame) -> list[Fault]:
    """Lines and columns of which a part would be lost."""
    faults = [
        Fault(f"{times} columns are called {name!r}", advice="Rename or delete all but one.")
        for name, times in Counter(header).items()
        if name and times > 1
    ]
    width = len(header)
    for number, beyond in lines[width].items():
        if beyond.replace(_BEYOND, "").strip():
            fault = f"line {number} has {width + 1 + beyond.count(_BEYOND)} cells, the heading {width}"
            faults.append(Fault(fault, advice="Quote cells that hold a comma."))
    return faults


def _run(
    file: Path,
    line: int,
    row: Mapping[str, str],
    fields: Mapping[str, str],
    scores: Sequence[Column],
    faults: list[Fault],
) -> ImportedRun | None:
    """The run of a row, or None if the row has faults, which are added to `faults`."""
    before = len(faults)
    known = _known(line, row, fields, faults)
    tasks = _tasks(line, row, scores, faults)
    if known is None or len(faults) > before:
        return None
    if not tasks:
        faults.append(Fault(f"line {line}: no score", advice="Fill it in, or delete the row."))
        return None
    used = {*fields.values(), *(column.name for column in scores)}
    return ImportedRun(
        name=known.name or f"{file.stem} line {line}",
        digest=digest_of(row, sorted(fields.items()), [vars(column) for column in scores]),
        source=f"{file.name}:{line}",
        **known.model_dump(include={"base", "base_revision", "method", "trained_on", "seed", "train_rows"}),
        tasks=tasks,
        settings={key: value for key, value in row.items() if key not in used and value},
        metrics=known.model_dump(include=set(_COSTS), exclude_none=True),
        note="A table holds no samples: intervals are only as good as the errors it gives.",
        name_counts=known.name is not None,
    )


def _known(line: int, row: Mapping[str, str], fields: Mapping[str, str], faults: list[Fault]) -> TableRow | None:
    cells = {ours: row[theirs] for ours, theirs in fields.items() if row[theirs].lower() not in _EMPTY}
    if row.get(fields.get("method", ""), "").lower() == "none":
        cells["method"] = "none"  # of a model that was not trained; elsewhere the word is an empty cell
    try:
        return TableRow.model_validate(cells)
    except ValidationError as error:
        places = [(str(one["loc"][0]), one["msg"]) for one in error.errors()]
        faults += [_fault(line, fields[ours], cells[ours], rule) for ours, rule in places]
        return None


def _tasks(line: int, row: Mapping[str, str], scores: Sequence[Column], faults: list[Fault]) -> dict[str, ImportedTask]:
    numbers: dict[tuple[str, str], dict[str, float]] = {}  # by task and part, then by metric
    conditions: dict[str, dict[str, object]] = {}
    for column in scores:
        cell = row[column.name]
        if cell.lower() in _EMPTY:
            continue
        known = conditions.setdefault(column.task, {})
        if column.part == "version":
            known["version"] = cell
            continue
        try:  # a heading's percent sign holds for its cells
            value = column.type.validate_python(f"{cell}%" if "%" in column.name and "%" not in cell else cell)
        except ValidationError as error:
            faults.append(_fault(line, column.name, cell, error.errors()[0]["msg"]))
            continue
        if column.part in _CONDITIONS:
            known["count" if column.part == "items" else column.part] = value
        else:
            numbers.setdefault((column.task, column.part), {})[column.metric] = value
    lower = {(one.task, one.metric) for one in scores if one.part == "value" and LOWER.search(one.measures)}
    tasks = {}
    for task in [task for task, part in numbers if part == "value"]:
        values = numbers[task, "value"]
        errors, base, base_errors = (numbers.get((task, part), {}) for part in ("stderr", "base", "base_stderr"))
        less = frozenset(name for name in values if (task, name) in lower)
        known = conditions[task]
        tasks[task] = ImportedTask(next(iter(values)), values, errors, base, base_errors, known, lower_is_better=less)
    return tasks


def _fault(line: int, column: str, cell: str, rule: str) -> Fault:
    return Fault(f"line {line}, column {column!r}", rule, cell, "Leave the cell empty if unknown.")


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
        fault = f"the columns {', '.join(repr(one.name) for one in twice)} hold one number twice"
        raise NotAResultFile(str(file), Fault(fault, advice="Delete all but one."))
    return fields, scores


def _score_column(ours: str, theirs: str, task: str) -> Column | None:
    plain = {"score": "value", "score_stderr": "stderr", "base_score": "base"}
    if ours in plain:
        return Column(task, "score", plain[ours], theirs)
    found = _SCORE.fullmatch(ours)
    if found is None or found["task"] in ("delta", "train", "validation", "system", "base"):
        return None
    if found["metric"] in _CONDITIONS:
        return Column(found["task"], "", found["metric"], theirs)
    own, base = ("stderr", "base_stderr") if found["error"] else ("value", "base")
    return Column(found["task"], found["metric"], base if found["base"] else own, theirs)


def _found(header: Sequence[str], wanted: str = "") -> str:
    near = nearest(wanted, list(header)) if wanted else ""
    return f"{near} Columns found: {', '.join(header)}.".strip()
