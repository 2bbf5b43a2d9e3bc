"""Task names: our own and the user's folders, read without lm-eval's index, and what a misspelt one meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunery.config.evaluation import EvaluationConfig
from tunery.config.load import yaml_fault
from tunery.errors import Fault, TaskError

OWN_FOLDER = Path(__file__).with_name("tasks")


@dataclass(frozen=True)
class OwnTask:
    """A task, group or tag that a YAML file of our own folders declares."""

    path: Path  # the YAML file; for a tag, the file of one of its tasks
    members: tuple[str, ...] = ()  # names in a group or tag; empty for a task
    items: tuple[Path, ...] = ()  # files that a task reads its items from


def task_folders(evaluation: EvaluationConfig, folder: Path) -> tuple[Path, ...]:
    """Our own task folder and those of evaluation.task_folders, which are looked for beside project.yaml.

    Raises:
        TaskError: If one is not a folder.
    """
    folders = [(folder / Path(name).expanduser()).resolve() for name in evaluation.task_folders]
    faults = [
        Fault("evaluation.task_folders", "a folder that exists", str(path), "Paths start beside project.yaml.")
        for path in folders
        if not path.is_dir()
    ]
    if faults:
        raise TaskError("evaluation", faults)
    return (OWN_FOLDER, *folders)


def own_tasks(folders: Sequence[Path]) -> dict[str, OwnTask]:
    """Every task, group and tag that YAML files of these folders declare; later folders win, as in lm-eval.

    Raises:
        TaskError: If a file does not parse, or a group contains itself.
    """
    found: dict[str, OwnTask] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("**/*.yaml")) if path.is_file()):
        config = _read(path)
        if "group" in config:
            members = _listed(config.get("task"))
            names = [one.get("task", one.get("group")) if isinstance(one, dict) else one for one in members]
            found[str(config["group"])] = OwnTask(path, tuple(map(str, names)))
        elif isinstance(config.get("task"), str):
            found[config["task"]] = OwnTask(path, items=tuple(_items(config, path.parent)))
            for tag in map(str, _listed(config.get("tag") or [])):
                earlier = found[tag].members if tag in found else ()
                found[tag] = OwnTask(path, (*earlier, config["task"]))
    _check_loops(found)
    return found


def all_own(names: Iterable[str], own: Mapping[str, OwnTask]) -> bool:
    """Whether the names and all their members are ours, so that lm-eval's own index is not needed."""
    return all(name in own and all_own(own[name].members, own) for name in names)


def without_hub(names: Iterable[str], own: Mapping[str, OwnTask]) -> bool:
    """Whether the names and all their members are ours and read their items from files here."""
    return all(
        name in own and (own[name].items or own[name].members) and without_hub(own[name].members, own) for name in names
    )


def absent_items(names: Iterable[str], own: Mapping[str, OwnTask]) -> Iterator[Fault]:
    """Files of items that are not there, of our own tasks among the names and their members."""
    for name in names:
        if name in own:
            yield from absent_items(own[name].members, own)
            for file in own[name].items:
                if not file.is_file():
                    key = f"{own[name].path}: dataset_kwargs.data_files"
                    yield Fault(key, "a file that can be read", str(file), "Paths start beside the YAML.")


def unknown_task(name: str, known: Iterable[str]) -> Fault:
    """The fault of an unknown task, with the nearest names."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    advice = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`lm-eval ls tasks` lists lm-eval's."
    return Fault(
        f"evaluation.tasks names {name!r}, which is in neither lm-eval nor evaluation.task_folders", advice=advice
    )


class TaskYaml(yaml.SafeLoader):
    """Reads a task's YAML without importing the functions that it names."""


TaskYaml.add_constructor("!function", lambda loader, node: str(node.value))


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=TaskYaml)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaskError(str(path), yaml_fault(error)) from error
    return config if isinstance(config, dict) else {}


def _items(config: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Files of a task that reads JSON; lm-eval and `datasets` check anything else."""
    settings = config.get("dataset_kwargs")
    files = settings.get("data_files") if isinstance(settings, Mapping) else None
    lists = files.values() if isinstance(files, Mapping) else [files]
    named = [name for names in lists for name in (names if isinstance(names, list) else [names])]
    if config.get("dataset_path") == "json":
        yield from (folder / name for name in named if isinstance(name, str))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_loops(own: Mapping[str, OwnTask]) -> None:
    """Refuse groups and tags that contain themselves, directly or through others: expanding them would never end."""
    for name, declared in own.items():
        below, found = list(declared.members), set[str]()
        while below:
            member = below.pop()
            if member not in found and member in own:
                below.extend(own[member].members)
            found.add(member)
        if name in found:
            fault = Fault("task", f"names of other tasks: {name!r} contains itself", list(declared.members))
            raise TaskError(str(declared.path), fault)
