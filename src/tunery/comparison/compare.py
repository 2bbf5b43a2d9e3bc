"""`tunery compare`: runs of any project, dataset and origin on one leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.comparison.entries import counting
from tunery.comparison.leaderboard import MOST_TESTED, rank
from tunery.comparison.names import named
from tunery.comparison.selection import separated
from tunery.errors import Fault, InputError, StorageError
from tunery.reporting.text import code
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tunery.comparison.entries import RunEntry
    from tunery.comparison.records import Comparison
    from tunery.comparison.selection import Selection
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store

EXPERIMENT = "comparisons"  # of runs that are of several projects
_CURVES = 12  # runs whose loss curves are drawn: one request each
_LISTED = 8
_PLOTS = ("leaderboard", "matrix", "cost", "ranks", "loss", "learning")  # all that a comparison may draw


@dataclass(frozen=True)
class CompareOptions:
    """How to compare.

    Args:
        confidence: Of every interval and every "better".
        seed: Of the permutation tests.
        tested: Configurations at most that are tested against one another, and whose answers are read for that.
        curves: Whether loss curves are read.
        out: Folder for the tables, the page and the plots.
        record: Whether the comparison becomes a run in MLflow.
        run_name: Name of that run.
    """

    confidence: float = 0.95
    seed: int = 0
    tested: int = MOST_TESTED
    curves: bool = True
    out: Path | None = None
    record: bool = True
    run_name: str | None = None


def compare_runs(
    selection: Selection, options: CompareOptions, observer: Observer, *, tracking_uri: str | None = None
) -> Comparison:
    """Rank the runs that are meant, and keep the comparison.

    Args:
        selection: Which runs.
        options: How.
        observer: Told what a person would want to see.
        tracking_uri: MLflow store.

    Returns:
        The comparison.

    Raises:
        InputError: If nothing matches, or nothing can be ranked; nothing was made then.
    """
    from tunery.comparison.report.tables import terminal
    from tunery.tracking.store import connect

    store = connect(tracking_uri, EXPERIMENT)
    selection = separated(store, selection)
    observer.step(f"reading {selection}")
    readings, notes = gather(store, selection, options)
    _refuse_named_nan(readings)
    observer.step(f"ranking {len(readings)} runs")
    comparison = rank(
        [one.entry for one in readings], confidence=options.confidence, seed=options.seed, tested=options.tested
    )
    for table in terminal(comparison):
        observer.show(table)
    for note in notes:
        observer.step(note)
    if options.out is not None:
        observer.step(f"written to {options.out}: {', '.join(sorted(write(comparison, options.out, notes)))}")
    if options.record:
        _record(store, comparison, readings, notes, options, selection, observer)
    return comparison


def gather(store: Store, selection: Selection, options: CompareOptions) -> tuple[list[RunEntry], list[str]]:
    """The runs that are meant, with the answers of those that are tested item by item, and what to say of them.

    Raises:
        InputError: If nothing matches.
    """
    from tunery.comparison.read import read
    from tunery.comparison.samples import contenders, with_answers, with_curves

    found = read(store, selection)
    readings = named(found.readings)
    tested = contenders(readings, options.tested)
    full = with_answers(store, tested)
    if options.curves:
        few = with_curves(store, full[:_CURVES])
        full = [*few, *full[_CURVES:]]
    known = {one.entry.run_id: one for one in full}
    notes = [*found.notes, *_without_answers(full)]
    if len(tested) < len(readings):
        notes.append(f"Answers were read of the {len(tested)} runs of the best {options.tested} configurations.")
    return [known.get(one.entry.run_id, one) for one in readings], notes


def frame_of(comparison: Comparison) -> pd.DataFrame:
    """The comparison as a table for a notebook."""
    from tunery.comparison.report.tables import frame

    return frame(comparison)


def _without_answers(readings: Sequence[RunEntry]) -> list[str]:
    """What can still be said of runs that keep no samples."""
    bare = [one.entry.name for one in readings if one.entry.tasks and not one.entry.samples]
    if not bare:
        return []
    names = ", ".join(dict.fromkeys(bare[:_LISTED])) + (
        f" and {len(bare) - _LISTED} more" if len(bare) > _LISTED else ""
    )
    return [
        f"Without samples: {names}. They stand by their scores and standard errors: differences are tested unpaired, "
        "which takes larger ones to be sure, and not at all where no error is known."
    ]


def _refuse_named_nan(readings: Sequence[RunEntry]) -> None:
    """A run that was asked for by name cannot be set apart in silence.

    Raises:
        InputError: With each of their scores that is no number.
    """
    faults = [
        Fault(
            f"{one.entry.name} ({one.entry.run_id}): {task} is {score.value}", advice="Score it again: tunery evaluate."
        )
        for one in readings
        if one.named
        for task, score in counting(one.entry).items()
        if not math.isfinite(score.value)
    ]
    if faults:
        raise InputError("compare", faults)


# ---- what is kept


def write(comparison: Comparison, folder: Path, notes: Sequence[str] = ()) -> list[str]:
    """Write every table, the page and the plots into a folder, in place of an earlier comparison's.

    Returns:
        What was written, by its path in the folder.

    Raises:
        StorageError: If it cannot be written.
    """
    written = texts(comparison, notes)
    drawn = {f"plots/{name}.png": figure for name, figure in _figures(comparison).items()}
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        _remove(folder / name for name in map("plots/{}.png".format, _PLOTS) if name not in drawn)
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, figure in drawn.items():
            figure.savefig(folder / name, bbox_inches="tight", dpi=120)
    except OSError as error:
        raise StorageError(str(folder), f"cannot be written: {error.strerror or error}.") from error
    return [*written, *drawn]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def texts(comparison: Comparison, notes: Sequence[str] = ()) -> dict[str, str]:
    """Every form of the comparison that is text, by file name."""
    from tunery.comparison.report.html import page
    from tunery.comparison.report.tables import csv, latex, markdown, pairs_csv

    return {
        "comparison.csv": csv(comparison),
        "pairs.csv": pairs_csv(comparison),
        "comparison.tex": latex(comparison),
        "comparison.md": markdown(comparison, notes),
        "comparison.html": page(comparison, notes),
    }


def _figures(comparison: Comparison) -> Mapping[str, Figure]:
    from tunery.comparison.report.plots import figures

    return figures(comparison)


def _record(
    store: Store,
    comparison: Comparison,
    readings: Sequence[RunEntry],
    notes: Sequence[str],
    options: CompareOptions,
    selection: Selection,
    observer: Observer,
) -> None:
    from tunery.tracking.run import open_run

    project = _project(readings)
    with open_run(replace(store, experiment=project), "comparison", project, run_name=options.run_name) as tracker:
        _log(comparison, readings, notes, options, selection, tracker)
        observer.step(f"kept as run {tracker.run_id}")


def _project(readings: Sequence[RunEntry]) -> str:
    """The project that all runs are of; runs of several, or of none, are compared in an experiment of their own."""
    projects = {one.entry.project.strip() for one in readings}
    return (projects.pop() if len(projects) == 1 else "") or EXPERIMENT


def _log(
    comparison: Comparison,
    readings: Sequence[RunEntry],
    notes: Sequence[str],
    options: CompareOptions,
    selection: Selection,
    tracker: Tracker,
) -> None:
    from tunery.tracking.provenance import collect

    written = texts(comparison, notes)
    tracker.set_description(f"{written.pop('comparison.md')}\n{_links(readings)}")
    for name, text in written.items():
        tracker.log_text(text, name)
    tracker.log_table(frame_of(comparison), "comparison.json")
    for name, figure in _figures(comparison).items():
        tracker.log_figure(figure, f"plots/{name}.png")
    tracker.writer.params(
        {"compare.selection": str(selection), "compare.confidence": options.confidence, "compare.seed": options.seed}
    )
    main = comparison.main
    tracker.log_metrics({"runs": len(readings), "boards": len(comparison.boards), "ranked": len(main.contenders)})
    tracker.tag(**{"tunery.compared": ", ".join(one.entry.run_id for one in readings)})
    tracker.log_dict({"runs": [_linked(one) for one in readings]}, "compared_runs.json")
    tracker.log_provenance(collect())


def _links(readings: Sequence[RunEntry]) -> str:
    """The runs as links that the MLflow UI follows; the report's own tables come first, and a description is short."""
    lines = [
        f"- [{code(one.entry.name)}](#/experiments/{one.experiment_id}/runs/{one.entry.run_id})" for one in readings
    ]
    return "\n".join(["## Runs", "", *lines, ""])


def _linked(reading: RunEntry) -> dict[str, object]:
    entry = reading.entry
    seed = {} if entry.seed is None else {"seed": entry.seed}
    return {
        "run_id": entry.run_id,
        "experiment_id": reading.experiment_id,
        "name": entry.name,
        "kind": entry.kind,
        **seed,
    }
