"""`tunery new`: a folder to start from, made of another project, or of rows and a base."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

import tunery
from tunery.config.commented import commented
from tunery.config.data import SourceConfig
from tunery.config.load import Overrides, load_project, project_from, read_tree
from tunery.config.project import Project
from tunery.data.reading.load import check_sources, load_rows, locate
from tunery.errors import BaseModelError, ConfigError, DataError, Fault
from tunery.evaluation.task_files import TaskYaml
from tunery.models.adapter_files import write_folder
from tunery.models.source import STAND_IN, check_base, local_folder, local_gguf
from tunery.runs.observer import Observer

PLACE = Path("projects")
_NO_ROWS = Fault("has no rows", "a dataset must have at least one")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Of no project that is copied, however deep it lies.
_NEVER = shutil.ignore_patterns("README.md", "project.yaml", "__pycache__", "mlruns", "*.db", ".*")
_USUAL: dict[str, Any] = {
    "base": {"quantization": "nf4"},
    "adapter": {"rank": 16, "alpha": 32, "dropout": 0.05, "target_modules": "all-linear"},
    "data": {"train": [], "validation": {"fraction": 0.1}, "max_length": "auto", "template": "chat"},
    "training": {
        "epochs": 3,
        "learning_rate": 2.0e-4,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "seed": 0,
    },
    "evaluation": {"tasks": [], "generation": {"prompts": 16, "max_new_tokens": 64}},
}


@dataclass(frozen=True)
class NewProject:
    """What a folder is made of."""

    name: str  # of the project; its folder is projects/NAME
    start: str | None = None  # the project whose settings and files are taken: its name in projects/, or its folder
    data: str | None = None  # rows to train on: a file, a folder saved by `datasets`, or a hub id
    base: str | None = None  # a hub id, a folder, a .gguf file or builtin:tiny


def new(wanted: NewProject, overrides: Overrides, observer: Observer) -> Path:
    """Make projects/NAME, whole or not at all.

    Args:
        wanted: What it is made of.
        overrides: Pairs of config key and YAML value, which are written too.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder is there, the project to copy is not, or the settings break a rule.
        DataError: If the rows are not there, cannot be read, or their columns are not recognised.
        BaseModelError: If the base is no model.
    """
    _check(wanted)
    folder, source = PLACE / wanted.name, _find(wanted.start)
    tree = _tree(wanted, folder, source)
    where = f"tunery new {wanted.name}"
    project_from(tree, where, folder, overrides)  # which lays the overrides over the tree

    def fill(place: Path) -> None:
        if source is not None:
            shutil.copytree(source, place, ignore=_left(source, tree), dirs_exist_ok=True)
        project = project_from(tree, where, place)
        if wanted.data is not None:
            tree["data"]["train"][0] |= _recognised(project, wanted.data, observer)
        _look_at_base(project, observer)
        (place / "project.yaml").write_text(commented(tree), encoding="utf-8")
        _check_sources(load_project(place), wanted)

    first = not PLACE.exists()
    try:
        write_folder(folder, fill, replace=False)
    except BaseException:
        if first:
            with suppress(OSError):
                PLACE.rmdir()
        raise
    observer.step(f"wrote {folder / 'project.yaml'}, where every key says what it is")
    if not load_project(folder).evaluation.names:
        observer.step("nothing scores it yet beside its base: name evaluation.tasks, or evaluation.answers of your own")
    train = f"tunery train --project {shlex.quote(str(folder))}"
    observer.step(f"next: {train} --preview 3, to see rows as the model does")
    observer.step(f"then: {train}")
    return folder


def _check(wanted: NewProject) -> None:
    where, folder = f"tunery new {wanted.name}", PLACE / wanted.name
    if wanted.start is None and (wanted.data is None or wanted.base is None):
        rule = "needs --from PROJECT, or --data ROWS and --base MODEL"
        raise ConfigError(where, f"{rule}. Try --from lima-mistral, or --data rows.csv --base builtin:tiny.")
    if folder.exists():
        raise ConfigError(where, f"{folder} is there already, but must be new. Choose another name.")
    if wanted.data is not None:
        _locate(wanted.data)
    if wanted.base is not None:
        local_folder(wanted.base, Path.cwd())


def _locate(data: str) -> None:
    try:
        locate(SourceConfig(source=data), Path.cwd())
    except DataError as error:
        faults = [replace(fault, advice="") if isinstance(fault, Fault) else fault for fault in error.faults]
        raise DataError(data, faults, "Paths of --data start at the working folder.") from error


def _find(start: str | None) -> Path | None:
    """The folder of the project to copy: a path, or a name in projects/ here or in the checkout that runs."""
    if start is None:
        return None
    checkout = Path(tunery.__file__).parents[2] / PLACE
    places = (Path(start).expanduser(), PLACE / start, checkout / start)
    found = next((place for place in places if (place / "project.yaml").is_file()), None)
    if found is None:
        known = sorted({file.parent.name for place in (PLACE, checkout) for file in place.glob("*/project.yaml")})
        rule = f"a folder with project.yaml, or one of the projects here: {', '.join(known) or 'none'}"
        advice = "tunery's own are in projects/ of its repository; the installed package has none."
        raise ConfigError("tunery new", Fault("--from", rule, start, advice))
    return found


def _tree(wanted: NewProject, folder: Path, source: Path | None) -> dict[str, Any]:
    """The settings as they will be written, in the order of the sections."""
    own = deepcopy(_USUAL) if source is None else read_tree(source / "project.yaml")
    tree = {"name": wanted.name, **{name: section for name, section in own.items() if name != "name"}}
    if wanted.base is not None:
        kept = {key: value for key, value in tree.get("base", {}).items() if key not in ("model", "revision")}
        tree["base"] = {"model": _from(folder, wanted.base), **kept}
    if wanted.data is not None:
        kept = {key: value for key, value in tree.get("data", {}).items() if key not in ("train", "validation")}
        train = [{"source": _from(folder, wanted.data)}]
        tree["data"] = {"train": train, "validation": {"fraction": 0.1}, **kept}
    return tree


def _left(source: Path, tree: dict[str, Any]) -> Callable[[str, list[str]], set[str]]:
    """What belongs to the project that is copied, and to it alone: to leave out of each folder, by name."""

    def belongs(path: Path) -> bool:
        stands_in = path.name == STAND_IN and tree.get("base", {}).get("model") != STAND_IN
        return stands_in or path.suffix == ".png" or (path.suffix in (".yaml", ".yml") and _is_project(path))

    def ignore(folder: str, names: list[str]) -> set[str]:
        own = {name for name in names if belongs(Path(folder, name))} if Path(folder) == source else set()
        return _NEVER(folder, names) | own

    return ignore


def _is_project(file: Path) -> bool:
    """Whether a YAML declares runs, as smoke.yaml does; not a task, which the project may need."""
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=TaskYaml)
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and {"base", "data", "training"} & tree.keys() != set()


def _from(folder: Path, name: str) -> str:
    """A path in the working folder as project.yaml must write it, so that both can be moved; others as they are."""
    path = Path(name).expanduser()
    elsewhere = path.is_absolute() and not path.is_relative_to(Path.cwd())
    return name if elsewhere or not path.exists() else os.path.relpath(path, folder)


def _recognised(project: Project, given: str, observer: Observer) -> dict[str, Any]:
    """How the rows are laid out, as keys of their source; all of them are read.

    Raises:
        DataError: As `load_rows` and `to_conversations`, in terms of this command's options; or if there is no row.
    """
    from tunery.data.layouts.convert import to_conversations
    from tunery.data.layouts.detect import as_columns, format_of
    from tunery.data.row_log import check_bad_rows

    source, names = project.data.train[0], ["Question", "Answer"]
    try:
        rows = load_rows(source, project.folder)
        names = list(rows.columns) if len(rows.columns) == len(names) else names
        if not rows.rows_wanted:
            raise DataError(given, _NO_ROWS)
        found = format_of(rows, source)
        converted = to_conversations(rows, source, 0)
        check_bad_rows(given, converted.bad, rows.rows_wanted, project.data.max_bad_rows)
    except DataError as error:
        if error.faults == [_NO_ROWS]:
            raise  # which no column changes
        columns = shlex.quote(as_columns(*names))
        advice = f"Keys of a source are options, such as --data.train.0.columns {columns} or --data.train.0.sheet NAME."
        raise DataError(given, error.faults, advice) from error
    for note in converted.notes:
        observer.step(note.replace(source.source, given, 1))  # the path as it was given
    turns = "; ".join(f"{turn.role}: {_short(turn.content)}" for turn in converted.conversations[0].messages)
    observer.step(f"{len(converted.conversations)} rows can be used; the first is {turns}")
    return {"columns": dict(found.columns)} if found.format == "columns" else {"format": found.format}


def _short(text: str, longest: int = 80) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= longest else f"{line[: longest - 1]}…")


def _look_at_base(project: Project, observer: Observer) -> None:
    """Check a base that is here; of a hub id, which may not be reached now, the form of its name.

    Raises:
        BaseModelError: If it is no model.
    """
    base, folder = project.base, project.folder
    if local_gguf(base.model, folder) or local_folder(base.model, folder):
        check_base(base, folder)
        return
    if not _HUB_ID.fullmatch(base.model):
        rule = "a folder that holds a model, a .gguf file, a hub id (owner/name), or builtin:tiny"
        raise BaseModelError(base.model, Fault("base.model", rule, base.model))
    observer.step(f"{base.model} is taken for a model of the Hugging Face Hub; training looks it up")


def _check_sources(project: Project, wanted: NewProject) -> None:
    """See that local sources and the project's own tasks are found from where it lies now."""
    try:
        check_sources(project.data, project.folder)
    except DataError as error:
        advice = f"Of {wanted.start}; name other rows with --data."
        raise DataError(f"tunery new {wanted.name}", error.faults, advice) from error
