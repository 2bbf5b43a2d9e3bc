"""Settings that are known to do well, tried before the sampler's: from YAML files, or from existing runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunery.config.fields import nearest, value_at
from tunery.config.project import Project
from tunery.errors import ConfigError, Fault
from tunery.search.space.parameters import Parameter, kept_at, short_text
from tunery.search.space.space import Settings, declared_settings, settle, space_of

if TYPE_CHECKING:
    from tunery.tracking.store import Store

RUNS = "runs:/"


@dataclass(frozen=True)
class _Entry:
    """What one configuration gives, and where it is written."""

    where: str
    given: Mapping[str, Any]


def known_good(project: Project, store: Store | None = None) -> list[Settings]:
    """The configurations that search.known_good names, each whole: keys that one leaves out are the project's own.

    Those that are the project's own settings, or came before, are left out: each is tried once.

    Args:
        project: Whose space they are reduced to.
        store: MLflow's, from which runs are read; without it runs:/ entries are skipped.

    Returns:
        Settings as `draw` gives them, derived keys included, in order.

    Raises:
        ConfigError: With every file that cannot be read, key that is not searched, and value outside of the space; or
            for the first run that tunery did not make.
    """
    found: list[Settings] = []
    faults: list[Fault] = []
    for entry in _entries(project, store, faults):
        settings = _settings(project, entry, faults)
        if settings is not None and settings not in (*found, declared_settings(project)):
            found.append(settings)
    if faults:
        raise ConfigError("search.known_good", faults)
    return found


def _entries(project: Project, store: Store | None, faults: list[Fault]) -> Iterator[_Entry]:
    searched = project.search.space
    for name in project.search.known_good:
        if not name.startswith(RUNS):
            yield from _from_file(project.folder / Path(name).expanduser(), faults)
        elif store is not None:
            tree = _config_of_run(project, name, store)
            yield _Entry(name, {key: value_at(tree, key) for key in searched})


def _config_of_run(project: Project, name: str, store: Store) -> Mapping[str, Any]:
    from tunery.tracking.run_facts import run_config

    tree = run_config(store, name.removeprefix(RUNS))
    if tree is None:
        raise ConfigError(project.name, Fault("search.known_good", "runs:/ and the id of a run that tunery made", name))
    return tree


def _from_file(file: Path, faults: list[Fault]) -> Iterator[_Entry]:
    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(Fault(str(file), f"cannot be read ({error.strerror})", advice="Paths start beside project.yaml."))
        return
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(Fault(str(file), f"not YAML ({' '.join(str(error).split())})"))
        return
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        advice = "Such as - {adapter.rank: 8, training.learning_rate: 2.0e-4}."
        faults.append(Fault(str(file), "not a list of mappings from keys to values", advice=advice))
        return
    yield from (_Entry(f"{file}[{number}]", entry) for number, entry in enumerate(listed))


def _settings(project: Project, entry: _Entry, faults: list[Fault]) -> Settings | None:
    """The entry's settings, or None when it has faults, which are added."""
    own = declared_settings(project)
    given = {str(key): kept_at(str(key), value) for key, value in entry.given.items()}
    found = [_not_searched(entry.where, key, project) for key in given if key not in project.search.space]

    def choose(parameter: Parameter) -> Any:
        value = given[parameter.key] if parameter.key in given else own.get(parameter.key)
        rule = parameter.outside(value)
        if rule is not None:
            found.append(_outside(entry.where, parameter.key, value, rule, parameter.key in given))
        return value

    try:
        settings = settle(project, choose)
    except ConfigError as error:
        found += [Fault(f"{entry.where} {fault}") for fault in error.faults]
        settings = {}
    found += _not_as_derived(entry.where, given, settings, project)
    faults += found
    return None if found else settings


def _not_searched(where: str, key: str, project: Project) -> Fault:
    advice = nearest(key, project.search.space) or "Add it to search.space, or leave it out."
    return Fault(f"{where} names {key!r}, which is not in search.space", advice=advice)


def _outside(where: str, key: str, value: object, rule: str, given: bool) -> Fault:
    if given:
        return Fault(f"{where} {key}", f"in the space: {rule}", value, "Widen search.space, or change the value.")
    return Fault(f"{where} leaves out {key!r}, and the project's own value is not in the space", advice="Give it.")


def _not_as_derived(where: str, given: Mapping[str, Any], settings: Settings, project: Project) -> Iterator[Fault]:
    for key, expression in space_of(project).derived.items():
        if key in given and key in settings and given[key] != settings[key]:
            rule = f"{short_text(settings[key])}, which search.space derives ({expression.text})"
            yield Fault(f"{where} {key}", rule, given[key], "Leave it out, or search the key instead of deriving it.")
