"""Digests of the files that a project names, by which a study notices that one was edited."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tunery.config.data import SourceConfig
from tunery.config.project import Project
from tunery.config.search import Dimension
from tunery.data.load import all_sources, locate
from tunery.errors import ConfigError, DataError
from tunery.evaluation.task_files import OWN_FOLDER, TaskYaml, own_tasks, task_folders
from tunery.search.space.parameters import kept_at
from tunery.search.space.space import with_settings


def file_digests(project: Project) -> dict[str, str]:
    """What is in the files that trials read: name -> first 16 hex digits of a SHA-256.

    Local data, also of sources that are searched; YAML files of the user's own tasks that are asked, with what those
    include, their items, and the Python beside them. A hub dataset is named by its revision, among the settings. A
    file that is not there is left out: whoever reads it says so.

    Returns:
        Digests by "data NAME", NAME as the project writes it, and "task NAME".
    """
    return {**dict(_data(project)), **dict(_tasks(project))}


def _data(project: Project) -> Iterator[tuple[str, str]]:
    for source in _sources(project):
        try:
            path = locate(source, project.folder)
        except DataError:
            continue
        if path is not None:
            yield f"data {source.source}", _digest([path] if path.is_file() else path.rglob("*"))


def _sources(project: Project) -> Iterator[SourceConfig]:
    yield from all_sources(project.data)
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
    except (yaml.YAMLError, UnicodeDecodeError):  # lm-eval says so
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
