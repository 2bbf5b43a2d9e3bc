"""Reading project.yaml and laying overrides over it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tunery.config.faults import faults_of
from tunery.config.fields import nearest
from tunery.config.project import Project, known_keys
from tunery.config.search import Dimension
from tunery.errors import ConfigError, Fault

_SPACE = "search.space."
Overrides = Sequence[tuple[str, str]]


def load_project(path: str | Path, overrides: Overrides = ()) -> Project:
    """Read a project and check all of it at once.

    Args:
        path: A project.yaml, or the folder that holds one.
        overrides: Pairs of dotted key and YAML value, later ones winning: ("adapter.rank", "32").

    Raises:
        ConfigError: With every fault found, in the file and in the overrides.
    """
    file = find_project(path)
    return project_from(read_tree(file), str(file), file.parent.resolve(), overrides)


def project_from(tree: dict[str, Any], where: str, folder: Path, overrides: Overrides = ()) -> Project:
    """Check a project that was read from elsewhere, such as the one that a run was made with.

    Args:
        tree: Plain YAML types; changed by the overrides.
        where: The place that faults are reported under.
        folder: Where its relative paths start.

    Raises:
        ConfigError: With every fault found.
    """
    for key, value in overrides:
        _set(tree, key, _parse(key, value))
    try:
        project = Project.model_validate(tree)
    except ValidationError as error:
        # A fault in an option is reported as the option, not as a line of the file.
        given = [key for key, _ in overrides]
        raise ConfigError(where, as_options(faults_of(error), given)) from None
    project._folder, project._place = folder, where
    project._overridden = tuple(dict.fromkeys(key for key, _ in overrides))
    return project


def as_options(faults: Iterable[Fault], given: Sequence[str]) -> list[Fault]:
    """Faults whose keys were given as options, in the words of the command line."""
    return [replace(fault, key=_option(fault.key, given)) for fault in faults]


def _option(key: str, given: Sequence[str]) -> str:
    for name in given:
        if key == name or key.startswith(f"{name}."):
            return f"--{key}"
        if key == f"unknown key {name!r}":
            return f"unknown key --{name}"
    return key


def find_project(path: str | Path) -> Path:
    """The project file that `path` names: itself, or project.yaml inside it."""
    file = Path(path)
    try:
        folder = file.is_dir()
        file = file / "project.yaml" if folder else file
        there = file.is_file()
    except OSError as error:  # a name too long for the system, or one it forbids
        raise ConfigError(f"{str(path)[:80]}...", Fault("no such project", str(error.strerror))) from None
    if not there:
        what = "holds no project.yaml" if folder else "is not there"
        known = sorted(str(found.parent) for found in Path("projects").glob("*/project.yaml"))
        advice = f"Known projects here: {', '.join(known)}." if known else "Name a folder that holds project.yaml."
        raise ConfigError(str(path), Fault("no such project", f"the folder or file {what}", advice=advice))
    return file


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML whose mappings must not repeat a key: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_TAB = repr("\t")  # as PyYAML names the character
_MERGE = "tag:yaml.org,2002:merge"
# A date such as 2020-13-45 raises ValueError, an unhashable key TypeError, thousands of brackets RecursionError.
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, RecursionError)


def read_tree(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, as it is written there.

    Raises:
        ConfigError: If it cannot be read or is no mapping.
    """
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except _YAML_ERRORS as error:
        raise ConfigError(str(file), yaml_fault(error)) from None
    except OSError as error:
        raise ConfigError(str(file), Fault("cannot be read", str(error.strerror))) from None
    if not isinstance(tree, dict):
        raise ConfigError(str(file), Fault("not a project", "a mapping with name, base and data is needed"))
    return copy.deepcopy(tree)


def yaml_fault(error: Exception, advice: str = "") -> Fault:
    """What a text that is not YAML has wrong; of a tab, which nobody sees, the place and what to put there.

    Args:
        error: What PyYAML raised.
        advice: What to do about any other fault.
    """
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark and _TAB in str(error.problem):
        place = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        return Fault(place, "a tab, where YAML takes spaces alone", advice="Put spaces there.")
    return Fault("not YAML", " ".join(str(error).split()), advice=advice)


def _parse(key: str, value: str) -> Any:
    try:
        return yaml.load(value, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--{key}", yaml_fault(error, "Quote the value.")) from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key; digits index a list: data.train.0.source."""
    *way, last = _steps(key)
    place: Any = tree
    for step in way:
        inside = _inside(place, step, key)
        if isinstance(place, dict) and place.get(step) is None:
            place[step] = {}
        place = place[inside]
    place[_inside(place, last, key)] = value


def _steps(key: str) -> list[str]:
    """The way to a key; what is searched is one step, since search.space has dotted keys: search.space.adapter.rank."""
    if not key.startswith(_SPACE):
        return key.split(".")
    searched, _, last = key.removeprefix(_SPACE).rpartition(".")
    is_part = bool(searched) and last in Dimension.model_fields
    return [*_SPACE.split(".")[:2], *([searched, last] if is_part else [key.removeprefix(_SPACE)])]


def _inside(place: Any, step: str, key: str) -> str | int:
    if isinstance(place, dict):
        return step
    if not isinstance(place, list):
        raise ConfigError(f"--{key}", Fault(f"unknown key {key!r}", advice=nearest(key, known_keys())))
    if not step.isdigit() or int(step) >= len(place):
        raise ConfigError(f"--{key}", Fault(f"{step!r}", f"the list has {len(place)} entries, numbered from 0"))
    return int(step)


def project_name(project: str) -> str:
    """A project's name, given its folder, its project.yaml, or the name itself."""
    path = Path(project).expanduser()
    is_project_file = path.is_file() and path.suffix in (".yaml", ".yml")
    return load_project(path).name if is_project_file or (path / "project.yaml").is_file() else project
