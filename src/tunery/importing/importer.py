"""`tunery import`: results of others stand in the same leaderboard, each brought in once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunery.config.fields import nearest
from tunery.errors import Fault, InputError
from tunery.importing.csv_table import read_table
from tunery.importing.lm_eval.results import is_lm_eval, read_lm_eval
from tunery.importing.peft_results import is_peft, read_peft
from tunery.importing.store import ImportedRun, NotAResultFile, digest_of, keep_imports, known_imports, store_faults
from tunery.runs.observer import Observer
from tunery.tracking.links import where_kept
from tunery.tracking.store import Store, connect, one_at_a_time

_TABLES = (".csv", ".tsv")
_FORMS = "a results_*.json of lm-eval, a result of PEFT's method comparison, or a CSV table"
_LISTED = 8
# What reading a tree raises where a part of it is of another type than its writer gives it.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


class UnrelatedFile(NotAResultFile):
    """The file is whole, and of another kind: a model's config.json beside its results."""


@dataclass(frozen=True)
class ImportOptions:
    """What the files do not say."""

    columns: Mapping[str, str] = field(default_factory=dict)  # of a CSV table: our name -> the column's
    task: str | None = None  # of a CSV table with a column `score`: what was scored
    repeats: bool = False  # of a CSV table without seeds: rows of equal settings are repetitions
    name: str | None = None  # this and the next four replace what a file says
    base: str | None = None
    base_revision: str | None = None
    method: str | None = None
    trained_on: str | None = None
    lower: Sequence[str] = ()  # metrics of which less is better, beside those whose file or name says so


def import_results(
    places: Sequence[Path],
    options: ImportOptions,
    observer: Observer,
    *,
    project: str = "imports",
    tracking_uri: str | None = None,
) -> list[str]:
    """Bring in result files as runs of kind `import`. All are read before the first is kept.

    Args:
        places: Files, or folders that are looked through.
        project: Experiment and project of the runs.

    Returns:
        Ids of the new runs; what the store holds already is left as it is.

    Raises:
        InputError: If a file cannot be read or holds no scores; nothing was kept then.
    """
    found = read_results(places, options, observer)
    store = connect(tracking_uri, project)
    with one_at_a_time(store.uri, ".import"):  # two that look at once would both miss what both bring
        return _kept(found, store, observer, project)


def _kept(found: Sequence[ImportedRun], store: Store, observer: Observer, project: str) -> list[str]:
    """Keep what the store does not hold yet; ids of the new runs."""
    known = known_imports(store)
    fresh: dict[str, ImportedRun] = {}
    there: list[str] = []
    for imported in found:
        if imported.digest in known:
            run_id, home = known[imported.digest]
            there.append(home)
            observer.step(f"{imported.source}: {imported.name} is here already, as run {run_id} in {home!r}")
        elif imported.digest in fresh:
            there.append(project)
            first = fresh[imported.digest].source
            observer.step(f"{imported.source}: {imported.name} is the same as {first}")
        else:
            fresh[imported.digest] = imported
    made: list[str] = []
    for imported, run_id in keep_imports(store, list(fresh.values()), project):
        made.append(run_id)
        tasks = ", ".join(f"{task} {one.values[one.metric]:.4f}" for task, one in imported.tasks.items() if one.counts)
        observer.step(f"{imported.source}: {imported.name} ({tasks}) is run {run_id}")
    homes = f" already, in {', '.join(map(repr, sorted(set(there))))}" if there else ""
    observer.step(f"{len(made)} imported into {project!r}, {len(there)} were there{homes}")
    if made:
        observer.step(where_kept(store, store.experiment_id(), made[-1]))
        observer.step(f"next: tunery compare --project {project}")
    return made


def read_results(places: Sequence[Path], options: ImportOptions, observer: Observer) -> list[ImportedRun]:
    """Read every file.

    Raises:
        InputError: With the faults of all files.
    """
    found = _all("import", places, lambda it: _folder(it, options, observer) if it.is_dir() else _file(it, options))
    known = sorted({metric for imported in found for task in imported.tasks.values() for metric in task.values})
    faults = [
        Fault(f"there is no metric {name!r}", advice=f"{nearest(name, known)} Found are: {', '.join(known)}.".strip())
        for name in options.lower
        if name not in known
    ]
    if faults:
        raise InputError("--lower", faults)
    return found


def _all(where: str, places: Sequence[Path], read: Callable[[Path], list[ImportedRun]]) -> list[ImportedRun]:
    """The runs of all places, or all their faults."""
    found: list[ImportedRun] = []
    faults: list[InputError] = []
    for place in places:
        try:
            found += read(place)
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InputError(where, [str(error) for error in faults])
    return found


def _folder(folder: Path, options: ImportOptions, observer: Observer) -> list[ImportedRun]:
    """Result files below a folder; others in it are no fault, unless there is nothing else."""
    passed: list[NotAResultFile] = []

    def read(file: Path) -> list[ImportedRun]:
        try:
            return _file(file, options)
        except NotAResultFile as error:
            passed.append(error)
            return []

    files = [file for file in sorted(folder.rglob("*")) if file.suffix in (".json", *_TABLES) and file.is_file()]
    found = _all(str(folder), files, read)
    # Why: of each file that may have been meant; a model's own files are only named.
    reasons = [str(error) for error in passed if not isinstance(error, UnrelatedFile)]
    held = ", ".join([Path(error.where).name for error in passed][:_LISTED])
    if not found:
        nothing = f"holds no result file; it holds {held or 'no .json and no .csv'}"
        raise InputError(str(folder), [Fault(nothing, advice=f"Wanted is {_FORMS}."), *reasons])
    if passed:
        observer.step(f"{folder}: passed over {len(passed)} files ({held})")
    for reason in reasons:
        observer.step(f"passed over {reason}")
    return found


def _file(file: Path, options: ImportOptions) -> list[ImportedRun]:
    try:
        found = [_with_options(imported, options) for imported in _runs(file, options)]
    except _MALFORMED as error:
        fault = f"a part of it is not what it must be ({type(error).__name__}: {error})"
        raise InputError(str(file), Fault(fault, advice="Write the file again, or leave it out.")) from error
    faults = store_faults(found)
    if faults:
        raise InputError(str(file), faults)
    return found


def _runs(file: Path, options: ImportOptions) -> list[ImportedRun]:
    if not file.is_file():
        raise InputError(str(file), Fault("is not there", advice="Name a result file, or a folder of them."))
    if file.suffix in _TABLES:
        return read_table(file, options.columns, options.task, options.repeats)
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        advice = f"Wanted is {_FORMS}."
        if file.name.startswith("samples_"):
            advice = "Name the results_*.json beside it: its samples are found from there."
        raise NotAResultFile(str(file), Fault(f"is not JSON ({error})", advice=advice)) from error
    if is_lm_eval(tree):
        return [read_lm_eval(file, tree)]
    if is_peft(tree):
        return [read_peft(file, tree)]
    keys = f"its keys are {', '.join(sorted(tree)[:_LISTED])}" if isinstance(tree, dict) else "it is no JSON object"
    raise UnrelatedFile(str(file), Fault(f"is no result file: {keys}", advice=f"Wanted is {_FORMS}."))


def _with_options(imported: ImportedRun, options: ImportOptions) -> ImportedRun:
    """What the command line says, over what the file says; another statement is another import."""
    keys = ("name", "base", "base_revision", "method", "trained_on")
    told = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    lower = sorted({metric for task in imported.tasks.values() for metric in task.values if metric in options.lower})
    said = {**told, "lower": lower} if lower else told
    if not said:
        return imported
    tasks = {
        name: replace(task, lower_is_better=task.lower_is_better | task.values.keys() & set(lower))
        for name, task in imported.tasks.items()
    }
    named = imported.name_counts or options.name is not None
    return replace(imported, **told, tasks=tasks, digest=digest_of(imported.digest, said), name_counts=named)
