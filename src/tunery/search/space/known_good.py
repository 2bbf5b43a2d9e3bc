"""Settings that are known to do well, tried before the sampler's: from YAML files, or from existing runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunery.config.fields import nearest, value_at
from tunery.config.load import yaml_fault
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError, Fault
from tunery.search.space.parameters import Parameter, kept_at, short_text
from tunery.search.space.space import Settings, declared_settings, settle, space_of

if TYPE_CHECKING:
    from tunery.tracking.store import Store

RUNS = "runs:/"


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
    for where, given in _entries(project, store, faults):
        settings, wrong = _settings(project, where, given)
        faults += wrong
        if not wrong and settings not in (*found, declared_settings(project)):
            found.append(settings)
    if faults:
        raise ConfigError("search.known_good", faults)
    return found


def _entries(project: Project, store: Store | None, faults: list[Fault]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each configuration gives, after the place where it is written."""
    for name in project.search.known_good:
        if not name.startswith(RUNS):
            yield from _from_file(project.folder / Path(name).expanduser(), faults)
        elif store is not None:
            from tunery.tracking.run_facts import run_config

            tree = run_config(store, name.removeprefix(RUNS))
            if tree is None:
                rule = "runs:/ and the id of a run that tunery made"
                raise ConfigError(project.name, Fault("search.known_good", rule, name))
            yield name, {key: value_at(tree, key) for key in project.search.space}


def _from_file(file: Path, faults: list[Fault]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(Fault(str(file), f"cannot be read ({error.strerror})", advice="Paths start beside project.yaml."))
        return
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        faults.append(Fault(str(file), str(yaml_fault(error)).rstrip(".")))
        return
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        advice = "Such as - {adapter.rank: 8, training.learning_rate: 2.0e-4}."
        faults.append(Fault(str(file), "not a list of mappings from keys to values", advice=advice))
        return
    yield from ((f"{file}[{number}]", entry) for number, entry in enumerate(listed))


def _settings(project: Project, where: str, entry: Mapping[str, Any]) -> tuple[Settings, list[Fault]]:
    """The settings of one configuration, and what is wrong with it."""
    space, own = space_of(project), declared_settings(project)
    given = {str(key): kept_at(str(key), value) for key, value in entry.items()}
    faults: list[Fault] = []
    for key in (key for key in given if key not in project.search.space):
        advice = nearest(key, project.search.space) or "Add it to search.space, or leave it out."
        faults.append(Fault(f"{where} names {key!r}, which is not in search.space", advice=advice))

    def choose(parameter: Parameter) -> Any:
        key = parameter.key
        value = given.get(key, own.get(key))
        rule = parameter.outside(value)
        if rule is not None and key in given:
            advice = "Widen search.space, or change the value."
            faults.append(Fault(f"{where} {key}", f"in the space: {rule}", value, advice))
        elif rule is not None:
            unfit = f"{where} leaves out {key!r}, and the project's own value is not in the space"
            faults.append(Fault(unfit, advice="Give it."))
        return value

    try:
        settings = settle(space, resolved(project), choose)
    except ConfigError as error:
        return {}, [*faults, *(Fault(f"{where} {fault}") for fault in error.faults)]
    for key, expression in space.derived.items():
        if key in given and given[key] != settings[key]:
            rule = f"{short_text(settings[key])}, which search.space derives ({expression.text})"
            advice = "Leave it out, or search the key instead of deriving it."
            faults.append(Fault(f"{where} {key}", rule, given[key], advice))
    return settings, faults
