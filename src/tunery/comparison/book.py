"""The answers of all compared configurations side by side, a sheet a task and a row a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.comparison.entries import SamplesLocation, TaskScore
from tunery.comparison.records import Comparison, LeaderboardRow
from tunery.comparison.samples import KeptBase, kept_bases
from tunery.errors import Fault, InputError
from tunery.evaluation.samples import file_name
from tunery.reporting.workbook import write_workbook
from tunery.tracking.run_facts import artifact
from tunery.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd

_TEXTS = ("item_id", "question", "target", "prediction")


def write_answers(store: Store, comparison: Comparison, path: Path) -> list[str]:
    """Write the answers of every ranked configuration, by its first seed, beside reference and base.

    Returns:
        The tasks that have a sheet.

    Raises:
        InputError: If the path is no .xlsx file, or no compared run keeps its answers.
        StorageError: If it cannot be written.
    """
    check_path(path)
    rows = [row for board in comparison.boards for row in board.contenders]
    tasks = list(dict.fromkeys(task for row in rows for task in row.first.tasks))
    bases = kept_bases(store)
    tables = {task: _table(store, task, rows, bases) for task in tasks}
    sheets = {task: table for task, table in tables.items() if table is not None}
    if not sheets:
        raise InputError("compare", Fault("--answers", "given only where a compared run keeps its answers", str(path)))
    write_workbook({task: list(_cells(table)) for task, table in sheets.items()}, path)
    return list(sheets)


def check_path(path: Path) -> None:
    """Refuse a file that is no workbook, before anything is read.

    Raises:
        InputError: If its name does not end in .xlsx.
    """
    if path.suffix.lower() != ".xlsx":
        raise InputError("compare", Fault("--answers", "a file that ends in .xlsx", str(path)))


def _table(store: Store, task: str, rows: Sequence[LeaderboardRow], bases: Sequence[KeptBase]) -> pd.DataFrame | None:
    """Item -> prompt, reference, each base's answers, each configuration's, and how they score."""
    import pandas as pd

    asked: dict[str, tuple[str, str]] = {}
    columns: dict[str, Mapping[str, object]] = {}
    for heading, location, score, looked_up in _sides(task, rows, bases):
        frame = _answers(store, location, score)
        if frame is not None and heading not in columns:
            texts = zip(frame["question"].astype(str), frame["target"].astype(str), strict=True)
            own = dict(zip(frame["item_id"], texts, strict=True))
            if not looked_up:  # a base that was looked up has answered items that a trial was not asked
                asked = own | asked
                if any(asked[item][0] != prompt for item, (prompt, _) in own.items()):
                    columns[f"{heading}: prompt"] = {item: prompt for item, (prompt, _) in own.items()}
            columns[heading] = dict(zip(frame["item_id"], frame["prediction"].astype(str), strict=True))
            columns[f"{heading}: {score.metric}"] = dict(zip(frame["item_id"], frame[score.metric], strict=True))
    if not columns:
        return None
    table = pd.DataFrame({"prompt": {item: texts[0] for item, texts in asked.items()}})
    table["reference"] = pd.Series({item: texts[1] for item, texts in asked.items()})
    return table.assign(**{heading: pd.Series(values, dtype=object) for heading, values in columns.items()})


def _sides(
    task: str, rows: Sequence[LeaderboardRow], bases: Sequence[KeptBase]
) -> Iterator[tuple[str, SamplesLocation, TaskScore, bool]]:
    """Bases first, then the configurations from the best on; and whether an answer was looked up, as a base's is."""
    scored = [row for row in rows if task in row.first.tasks and task in row.first.locations]
    shown: dict[str, str] = {}  # heading by the run that keeps a base's answers
    for row in scored:
        location, score = row.first.locations[task], row.first.tasks[task]
        base = next((base for base in bases if base.fits(location, score)), None)
        if base is not None and not location.is_bare and base.location.run_id not in shown:
            heading = f"base {location.base}"  # a second one was asked in other words, or had other weights
            heading = f"{heading} of {row.name}" if heading in shown.values() else heading
            shown[base.location.run_id] = heading
            yield heading, base.location, score, True
    for row in scored:
        yield row.name, row.first.locations[task], row.first.tasks[task], False


def _answers(store: Store, location: SamplesLocation, score: TaskScore) -> pd.DataFrame | None:
    import pandas as pd

    name = f"{location.folder}/{file_name(score.task)}"
    try:
        with artifact(store, location.run_id, location.artifact_uri, name) as path:
            return pd.read_parquet(path, columns=[*_TEXTS, score.metric])
    except (OSError, ValueError):  # gone, or imported without its texts
        return None


def _cells(table: pd.DataFrame) -> Iterator[Sequence[str | float | None]]:
    yield [str(column) for column in table.columns]
    yield from table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)
