"""What makes a study the study that it is: written down when it is made, compared when somebody goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunery.config.data import SourceConfig
from tunery.config.fingerprint import fingerprint, flatten
from tunery.config.project import Project, resolved
from tunery.config.search import Dimension
from tunery.data.load import all_sources, locate
from tunery.errors import ConfigError, DataError
from tunery.evaluation.task_files import OWN_FOLDER, TaskYaml, own_tasks, task_folders
from tunery.search.sampling.pruners import prune_metric, prunes
from tunery.search.space.parameters import kept_at
from tunery.search.space.space import with_settings

# What a trial is asked, trained on and compared by. A total, a time or a store may change from one day to the next.
_FIXED = ("sampler", "seed", "known_good")
FILES = "files"
_ABSENT = object()


def describe_space(project: Project, configurations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """All that must not change while a study runs, as plain JSON.

    Args:
        project: What is searched.
        configurations: What search.known_good comes to: their slots, and the grid without them, are laid out once.

    Returns:
        space, constraints, objectives in their order; sampler, seed, pruner in force and what it compares;
        settings: every other key that decides a result, what trials are asked among them; their fingerprint;
        configurations, numbered; digests of the files that trials read.
    """
    search = resolved(project)["search"]
    described = {
        "space": search["space"],
        "objectives": [[metric, direction] for metric, direction in search["objectives"].items()],
        "constraints": search["constraints"],
        **{name: search[name] for name in _FIXED},
        "pruner": search["pruner"] if prunes(project.search) else "none",
        "prune_by": prune_metric(project),
        "settings": _settings(project),
        "fingerprint": fingerprint(project),
        "configurations": {str(number): dict(given) for number, given in enumerate(configurations)},
        FILES: file_digests(project),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def space_digest(project: Project) -> str:
    """First 16 hex digits of the SHA-256 of `describe_space`."""
    canonical = json.dumps(describe_space(project), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions, one sentence each: "training.epochs was 3.0, is now 1.0"; [] if nothing.

    Args:
        old: `describe_space` when the study was made.
        new: `describe_space` of the project as it is now.
    """
    sentences = [
        *_between(_mapping(old.get("space")), _mapping(new.get("space")), "search.space: "),
        *_between(_mapping(old.get("objectives")), _mapping(new.get("objectives")), "search.objectives: "),
        *_between(_mapping(old.get("constraints")), _mapping(new.get("constraints")), "search.constraints: "),
        *_between(_plain(old), _plain(new), "search."),
        *_between(_mapping(old.get("settings")), _mapping(new.get("settings")), ""),
        *_newer(old, new, "configurations", "search.known_good, configuration "),
        *_newer(old, new, FILES, "the content of "),
    ]
    if not sentences and old.get("objectives") != new.get("objectives"):
        sentences.append("search.objectives: their order changed, and the first decides")
    return sentences


def _settings(project: Project) -> dict[str, Any]:
    tree = {key: value for key, value in resolved(project).items() if key not in ("name", "search", "promotion")}
    return flatten(tree)


def _plain(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: described[name] for name in (*_FIXED, "pruner", "prune_by") if name in described}


def _mapping(pairs: Any) -> dict[str, Any]:
    return dict(pairs or {})


def _between(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before is _ABSENT:
            yield f"{prefix}{key} is new: {_text(after)}"
        elif after is _ABSENT:
            yield f"{prefix}{key} is gone; it was {_text(before)}"
        elif before != after:
            yield f"{prefix}{key} was {_text(before)}, is now {_text(after)}"


def _newer(old: Mapping[str, Any], new: Mapping[str, Any], part: str, prefix: str) -> Iterator[str]:
    """Of a part that studies made by an earlier version have not."""
    if part in old:
        yield from _between(_mapping(old[part]), _mapping(new.get(part)), prefix)


def _text(value: object) -> str:
    if isinstance(value, dict):  # a dimension: only what it says
        value = {name: inner for name, inner in value.items() if inner not in (None, False)}
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
