"""What identifies a study: stored when it is created, compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunery.config.data import RowSource
from tunery.config.fingerprint import flatten
from tunery.config.project import Project, resolved
from tunery.config.search import Dimension
from tunery.data.reading.load import all_sources, locate
from tunery.errors import ConfigError, DataError
from tunery.evaluation.task_files import OWN_FOLDER, TaskYaml, own_tasks, task_folders
from tunery.models.adapter_files import CONFIG, WEIGHTS
from tunery.models.start import local_start
from tunery.search.sampling.pruners import prune_metric, prunes
from tunery.search.space.parameters import kept_at
from tunery.search.space.space import with_settings

FILES = "files"
# The parts of a description, and how a change in one is introduced. Totals, times and stores may change.
_PARTS = {
    "space": "search.space: ",
    "objectives": "search.objectives: ",
    "constraints": "search.constraints: ",
    "search": "search.",
    "settings": "",
    "configurations": "search.known_good, configuration ",
    FILES: "the content of ",
}


def describe_space(project: Project, configurations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """All that must not change while a study runs, as plain JSON; `configurations` are the known-good settings.

    Returns:
        space, constraints, objectives in their order; search: sampler, seed, known_good, the pruner in force and what
        it compares; settings: every other key that decides a result; configurations, numbered; digests of the files
        that trials read.
    """
    search = resolved(project)["search"]
    apart = ("name", "search", "promotion", "tracking")
    settings = {key: value for key, value in resolved(project).items() if key not in apart}
    described = {
        "space": search["space"],
        "objectives": [[metric, direction] for metric, direction in search["objectives"].items()],
        "constraints": search["constraints"],
        "search": {
            **{name: search[name] for name in ("sampler", "seed", "known_good")},
            "pruner": search["pruner"] if prunes(project.search) else "none",
            "prune_by": prune_metric(project),
            **({} if search["racing"] is None else {"racing": search["racing"]}),
        },
        "settings": flatten(settings),
        "configurations": {str(number): dict(given) for number, given in enumerate(configurations)},
        FILES: file_digests(project),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two results of `describe_space`: "training.epochs was 3.0, is now 1.0", and so on."""
    sentences = [
        sentence for part, prefix in _PARTS.items() for sentence in _between(dict(old[part]), dict(new[part]), prefix)
    ]
    if not sentences and old["objectives"] != new["objectives"]:
        sentences.append("search.objectives: their order changed, and the first decides")
    return sentences


def _between(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        if key not in old:
            yield f"{prefix}{key} is new: {_text(new[key])}"
        elif key not in new:
            yield f"{prefix}{key} was removed; it was {_text(old[key])}"
        elif old[key] != new[key]:
            yield f"{prefix}{key} was {_text(old[key])}, is now {_text(new[key])}"


def _text(value: object) -> str:
    if isinstance(value, dict):  # a dimension: only what it says
        value = {name: inner for name, inner in value.items() if inner not in (None, False)}
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def file_digests(project: Project) -> dict[str, str]:
    """What is in the files that trials read: name -> first 16 hex digits of a SHA-256.

    Local data, also of sources that are searched; YAML files of the user's own tasks that are asked, with what those
    include, their items, and the Python beside them. A hub dataset is named by its revision, among the settings. A
    missing file is left out: reading it reports the fault.

    Returns:
        Digests by "data NAME", NAME as the project writes it, "task NAME", and "adapter FOLDER".
    """
    return {**dict(_data(project)), **dict(_tasks(project)), **dict(_start(project))}


def _start(project: Project) -> Iterator[tuple[str, str]]:
    start = project.adapter.start
    folder = local_start(start, project.folder) if start is not None else None
    if folder is not None:
        yield f"adapter {start}", _digest([folder / CONFIG, folder / WEIGHTS])


def _data(project: Project) -> Iterator[tuple[str, str]]:
    for source in _sources(project):
        try:
            path = locate(source, project.folder)
        except DataError:
            continue
        if path is not None:
            yield f"data {source.source}", _digest([path] if path.is_file() else path.rglob("*"))


def _sources(project: Project) -> Iterator[RowSource]:
    yield from all_sources(project.data)
    yield from project.evaluation.answers
    for key, entry in project.search.space.items():
        if key.startswith("data.") and isinstance(entry, Dimension):
            for choice in entry.choices or ():
                try:
                    yield from all_sources(with_settings(project, {key: kept_at(key, choice)}).data)
                except ConfigError:  # only together with other keys
                    continue


def _tasks(project: Project) -> Iterator[tuple[str, str]]:
    own = own_tasks(task_folders(project.evaluation, project.folder))
    names = [name for name in project.evaluation.tasks if name in own]
    for name in names:  # grows while it is read: groups hold groups
        names += [member for member in own[name].members if member in own and member not in names]
        path = own[name].path
        if not path.is_relative_to(OWN_FOLDER):
            yield f"task {name}", _digest([*_read_by(path, set()), *path.parent.glob("*.py")])


def _read_by(path: Path, seen: set[Path]) -> Iterator[Path]:
    """A task's YAML file and every file that it names."""
    if path in seen or not path.is_file():
        return
    seen.add(path)
    yield path
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=TaskYaml)
    except (yaml.YAMLError, UnicodeDecodeError):  # lm-eval reports it
        return
    if isinstance(tree, Mapping):
        for name in _texts(tree.get("include")):
            yield from _read_by(path.parent / name, seen)
        settings = tree.get("dataset_kwargs")
        for name in _texts(settings.get("data_files") if isinstance(settings, Mapping) else None):
            yield path.parent / name


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list):
        for inner in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _texts(inner)


def _digest(paths: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted({path for path in paths if path.is_file()}):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]
