"""`tunery compare`: runs of any project, dataset and origin on one leaderboard."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.comparison.entries import counting, templates, without_template
from tunery.comparison.leaderboard import MOST_TESTED, rank
from tunery.comparison.selection import split_at_commas
from tunery.errors import Fault, InputError, StorageError
from tunery.reporting.text import code, counted, listed
from tunery.runs.observer import Observer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tunery.comparison.entries import RunEntry
    from tunery.comparison.records import Comparison
    from tunery.comparison.selection import Selection
    from tunery.tracking.store import Store

EXPERIMENT = "comparisons"  # for runs of several projects
# All that a comparison may draw.
PLOTS = ("leaderboard", "matrix", "cost", "speed", "ranks", "loss", "learning", "rows_cost", "tasks", "members")
_OTHER_FOLDER = "Free space, check its rights, or name another folder with --out."
_LONGEST_NAME = 200
_CURVES = 12  # runs whose loss curves are drawn: one request each


@dataclass(frozen=True)
class CompareOptions:
    """How runs are compared."""

    confidence: float = 0.95  # of every interval and every "better"
    seed: int = 0  # of the permutation tests
    # How many of the best configurations are tested against one another, item by item if answers are kept.
    tested: int = MOST_TESTED
    curves: bool = True  # whether loss curves are read
    out: Path | None = None  # folder for the tables, the page and the plots
    answers: Path | None = None  # .xlsx file for the answers of all configurations, side by side
    record: bool = True  # whether the comparison becomes a run in MLflow
    run_name: str | None = None  # name of that run
    any_template: bool = False  # whether scores through different chat templates are ranked together


def compare_runs(
    selection: Selection, options: CompareOptions, observer: Observer, *, tracking_uri: str | None = None
) -> Comparison:
    """Rank the selected runs, show the leaderboard, and keep the comparison.

    Raises:
        InputError: If nothing matches, or nothing can be ranked; nothing was written then.
    """
    from tunery.comparison.book import check_path, write_answers
    from tunery.comparison.report.tables import terminal
    from tunery.tracking.store import connect

    if options.out is not None:
        check_writable(options.out)
    if options.answers is not None:
        check_path(options.answers)
    store = connect(tracking_uri, EXPERIMENT)
    selection = split_at_commas(store, selection)
    observer.step(f"reading {selection}")
    entries, notes = gather(store, selection, options)
    _refuse_named_nan(entries)
    observer.step(f"ranking {counted(len(entries), 'run')}")
    comparison = rank(entries, confidence=options.confidence, seed=options.seed, tested=options.tested)
    for table in terminal(comparison):
        observer.show(table)
    for note in notes:
        observer.step(note)
    if options.answers is not None:
        tasks = write_answers(store, comparison, options.answers)
        observer.step(f"answers written to {options.answers}: {', '.join(tasks)}")
    if options.out is None and not options.record:
        observer.step("not kept; --out FOLDER writes the whole report")
        return comparison
    report = report_of(comparison, notes)
    try:
        if options.out is not None:
            observer.step(f"written to {options.out}: {', '.join(sorted(report.write(options.out)))}")
    finally:  # a folder that is full must not cost the run
        if options.record:
            run_id, page = _record(store, comparison, report, entries, options, selection)
            observer.step(f"kept as run {run_id}, with the report in report.md and comparison.html")
            observer.step(page)
    best = comparison.main.contenders[0].first
    if best.version is not None:
        observer.step(f"next: tunery promote {shlex.quote(f'models:/{best.version}')}")
    return comparison


def gather(store: Store, selection: Selection, options: CompareOptions) -> tuple[list[RunEntry], list[str]]:
    """The selected runs, with the answers of those that are tested item by item, and notes for the reader."""
    from tunery.comparison.read import read
    from tunery.comparison.samples import best_configurations, with_answers, with_curves

    entries, notes = read(store, selection)
    full = with_answers(store, best_configurations(entries, options.tested))
    if options.curves:
        full = [*with_curves(store, full[:_CURVES]), *full[_CURVES:]]
    bare, away = _without_samples(store, full)
    if away:
        notes.append(
            f"Samples out of reach: {listed(list(away), 3)}. They were kept, but {next(iter(away.values()))}. Until "
            "then their scores are compared unpaired, by standard errors."
        )
    if bare:
        notes.append(
            f"Without samples: {listed(bare, 3)}. Their scores are compared unpaired, by standard errors: only larger "
            "differences can be told from chance, and none where no error is known."
        )
    if len(full) < len(entries):
        notes.append(f"Answers were read of the {len(full)} runs of the best {options.tested} configurations.")
    by_id = {entry.run_id: entry for entry in full}
    entries = [by_id.get(entry.run_id, entry) for entry in entries]
    if options.any_template and len(named := templates(entries)) > 1:
        entries = [without_template(entry) for entry in entries]
        notes.append(f"Ranked together by --any-template: asked through the chat templates {listed(named)}.")
    return entries, notes


def _without_samples(store: Store, entries: Sequence[RunEntry]) -> tuple[list[str], dict[str, str]]:
    """Names of the runs that keep no answers; and of those that do, out of reach: why, by name."""
    from tunery.tracking.places import moved

    bare: list[str] = []
    away: dict[str, str] = {}
    for entry in entries:
        if entry.tasks and not entry.samples:
            told = moved(store, next(iter(entry.locations.values())).artifact_uri)
            if told is None:
                bare.append(entry.name)
            else:
                away[entry.name] = told
    return list(dict.fromkeys(bare)), away


def _refuse_named_nan(entries: Sequence[RunEntry]) -> None:
    """A run that was asked for by name is not set apart silently: a score of it that is no number raises InputError."""
    faults = [
        Fault(f"{entry.name} ({entry.run_id}): {task} is {score.value}", advice="Score it again: tunery evaluate.")
        for entry in entries
        if entry.named
        for task, score in counting(entry).items()
        if not math.isfinite(score.value)
    ]
    if faults:
        raise InputError("compare", faults)


# ---- what is kept


@dataclass(frozen=True)
class Report:
    """Every form in which a comparison is kept."""

    texts: Mapping[str, str]  # by file name
    figures: Mapping[str, Figure]  # by name

    def write(self, folder: Path) -> list[str]:
        """Write all of it into a folder, replacing an earlier comparison, and return the paths in that folder.

        Raises:
            StorageError: If the folder cannot be written; an earlier comparison is then still there.
        """
        drawn = {f"plots/{name}.png": figure for name, figure in self.figures.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".partial-", dir=folder) as place:
                (Path(place) / "plots").mkdir()
                for name, text in self.texts.items():
                    (Path(place) / name).write_text(text, encoding="utf-8")
                for name, figure in drawn.items():
                    figure.savefig(Path(place) / name, bbox_inches="tight", dpi=120)
                _put_in_place(Path(place), folder, [*self.texts, *drawn])
        except OSError as error:
            fault = Fault(f"cannot be written ({error.strerror or error})", advice=_OTHER_FOLDER)
            raise StorageError(str(folder), fault) from error
        return [*self.texts, *drawn]


def check_writable(folder: Path) -> None:
    """Look at a folder that is to be written at the end, which may be there or not; nothing is made.

    Raises:
        StorageError: If it cannot be written.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(str(folder), Fault(f"{there} cannot be written", advice=_OTHER_FOLDER))


def _put_in_place(written: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files of a comparison to where they belong, and delete the plots of an earlier one."""
    (folder / "plots").mkdir(exist_ok=True)
    for name in PLOTS:
        (folder / "plots" / f"{name}.png").unlink(missing_ok=True)
    for name in names:
        (written / name).replace(folder / name)


def report_of(comparison: Comparison, notes: Sequence[str] = ()) -> Report:
    """Tables, page and plots, each made once; `notes` say how the runs were read."""
    from tunery.comparison.report.plots import figures
    from tunery.comparison.report.tables import csv, frame, latex, markdown, page, pairs_frame

    drawn = figures(comparison)
    texts = {
        "comparison.csv": csv(frame(comparison)),
        "pairs.csv": csv(pairs_frame(comparison)),
        "comparison.tex": latex(comparison),
        "comparison.md": markdown(comparison, notes),
        "comparison.html": page(comparison, drawn, notes),
    }
    return Report(texts, drawn)


def _record(
    store: Store,
    comparison: Comparison,
    report: Report,
    entries: Sequence[RunEntry],
    options: CompareOptions,
    selection: Selection,
) -> tuple[str, str]:
    """Keep the comparison as a run; the run's id, and where its page is."""
    from tunery.comparison.report.tables import frame
    from tunery.tracking.links import where_kept
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run
    from tunery.tracking.store import decisions_of

    project = _project(entries)
    name = options.run_name or f"compare {counted(len(entries), 'run')}: {selection}"[:_LONGEST_NAME]
    place = replace(store, experiment=EXPERIMENT if project == EXPERIMENT else decisions_of(project))
    with open_run(place, "comparison", project, run_name=name) as tracker:
        for name, text in report.texts.items():
            if name == "comparison.md":
                tracker.set_description(f"{text}\n{_links(entries)}")
            else:
                tracker.log_text(text, name)
        tracker.log_table(frame(comparison), "comparison.json")
        for name, figure in report.figures.items():
            tracker.log_figure(figure, f"plots/{name}.png")
        tracker.tag(**{"tunery.compared": ", ".join(entry.run_id for entry in entries)})
        runs = [
            {"run_id": one.run_id, "experiment_id": one.experiment_id, "name": one.name, "kind": one.kind}
            | ({} if one.seed is None else {"seed": one.seed})
            for one in entries
        ]
        tracker.log_dict({"runs": runs}, "compared_runs.json")
        tracker.log_provenance(collect(diff="names"))
        counts = {
            "runs": len(entries),
            "boards": len(comparison.boards),
            "ranked": len(comparison.main.contenders),
        }
        settings = {"selection": str(selection), "confidence": options.confidence, "seed": options.seed}
        tracker.log_params({f"compare.{name}": value for name, value in (settings | counts).items()})
        return tracker.run_id, where_kept(store, tracker.experiment_id, tracker.run_id)


def _project(entries: Sequence[RunEntry]) -> str:
    """The project of all runs; a comparison of several projects, or of none, has an experiment of its own."""
    projects = {entry.project.strip() for entry in entries}
    return (projects.pop() if len(projects) == 1 else "") or EXPERIMENT


def _links(entries: Sequence[RunEntry]) -> str:
    """The runs as links that the MLflow UI follows; below the report, since a description is cut at its end."""
    from tunery.tracking.links import run_link

    lines = [f"- [{code(entry.name)}]({run_link(entry.experiment_id, entry.run_id)})" for entry in entries]
    return "\n".join(["## Runs", "", *lines, ""])
