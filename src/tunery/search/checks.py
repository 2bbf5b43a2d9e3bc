"""All that can be wrong with a search, found before anything is made: one fault each, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError

from pydantic import BaseModel

from tunery.config.fields import field_at, nearest, value_at
from tunery.config.project import Project, known_keys, resolved
from tunery.config.search import Dimension
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.search.expressions import Expression, ExpressionError, parse
from tunery.search.fits import derived_faults, misfits
from tunery.search.known_good import known_good
from tunery.search.objectives import objective_faults
from tunery.search.parameters import Parameter, as_list, parameter
from tunery.search.rules import count_faults, rule_faults
from tunery.search.space import Space, arrange

# Keys that no trial may change, by where they begin, and why.
_NOT_SEARCHED: Mapping[str, str] = {
    "name": "it names the experiment",
    "search": "it is how trials are chosen and judged",
    "promotion": "it is how a champion is chosen",
    "evaluation": "every trial is asked the same questions in the same way",
    "data.validation": "validation loss would not be comparable between trials",
    "training.seed": "trials differ by their settings, not by a hidden seed; search.seeds trains finalists with others",
    "training.checkpoints": "trials are compared, and pruned, at the same checkpoints",
    "training.score_checkpoints": "trials are compared, and pruned, by the same measure",
}


def check_space(project: Project) -> None:
    """Check the section `search` of a project against the project, without making or loading anything.

    Raises:
        ConfigError: With every fault of the space, the sampler, the pruner, objectives, constraints and known-good
            files. Entries runs:/ of search.known_good, and metrics of tasks, are checked when they are read.
    """
    faults = list(_key_faults(project))
    space = _readable(project, faults)
    faults += _memory_faults(project)
    faults += objective_faults(project, _task_names(project))
    if space is not None:
        faults += _own_value_faults(project, space, list(map(str, faults)))
        faults += rule_faults(project, space)
    if space is not None and not faults:
        faults += derived_faults(project, space)
    if space is not None and not faults:  # both take a space that holds the project's own settings
        faults += _known_good_faults(project) or count_faults(project, space, known_good(project))
    if faults:
        raise ConfigError(str(project.folder / "project.yaml"), faults)


def _readable(project: Project, faults: list[Fault]) -> Space | None:
    """The part of the space that can be read, or None where keys wait for each other; why is added to the faults."""
    drawn: dict[str, Parameter] = {}
    derived: dict[str, Expression] = {}
    for key, entry in project.search.space.items():
        if isinstance(entry, Dimension):
            drawn[key] = parameter(key, entry)
            faults += _value_faults(project, key, entry)
        else:
            try:
                derived[key] = parse(entry)
            except ExpressionError as error:
                faults.append(Fault(f"search.space.{key}", str(error), entry, "Try '2 * adapter.rank'."))
    faults += [fault for key, found in derived.items() for fault in _name_faults(key, found)]
    faults += [fault for key, found in drawn.items() for fault in _condition_faults(project, key, found, drawn)]
    try:
        return arrange(drawn, derived)
    except CycleError as error:
        circle = " -> ".join(map(str, error.args[1]))
        faults.append(Fault(f"search.space: keys wait for each other ({circle})", advice="Break the circle."))
        return None


def _key_faults(project: Project) -> Iterator[Fault]:
    keys = list(project.search.space)
    if not keys:
        yield Fault("search.space", "at least one key and its values", {}, "Try {adapter.rank: {choices: [8, 16]}}.")
    for key in keys:
        reason = next((why for start, why in _NOT_SEARCHED.items() if f"{key}.".startswith(f"{start}.")), None)
        field = field_at(Project, key)
        if reason is not None:
            yield Fault(f"search.space names {key!r}, which cannot be searched", reason)
        elif field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield Fault(f"search.space names {key!r}, which is a section", "search the keys in it")
        elif not _is_there(project, key):
            yield Fault(f"search.space names {key!r}, which the project does not have")
        for other in keys:
            if key.startswith(f"{other}."):
                yield Fault(f"search.space names {key!r}, which lies inside {other!r}", "search one of them")


def _is_there(project: Project, key: str) -> bool:
    """Whether a key in a list's entry has its entry: data.train.3.weight."""
    above = key.rpartition(".")[0]
    return not above or value_at(resolved(project), above) is not None


def _value_faults(project: Project, key: str, entry: Dimension) -> Iterator[Fault]:
    if entry.choices is not None:
        values = [("choices", choice) for choice in entry.choices]
        texts = [str(value) for _, value in values]
        if len(set(texts)) < len(texts):
            yield Fault(f"search.space.{key}.choices", "given once each", entry.choices)
    else:
        values = [("low", entry.low), ("high", entry.high)]
    for part, value in values:
        yield from misfits(project, key, value, f"search.space.{key}.{part}")
    if entry.step is not None and parameter(key, entry).whole and entry.step != int(entry.step):
        yield Fault(f"search.space.{key}.step", "a whole number", entry.step)


def _name_faults(key: str, expression: Expression) -> Iterator[Fault]:
    for name in expression.names:
        if field_at(Project, name) is None:
            advice = nearest(name, known_keys())
            yield Fault(f"search.space.{key} uses the unknown key {name!r}", advice=advice)


def _condition_faults(project: Project, key: str, found: Parameter, drawn: Mapping[str, Parameter]) -> Iterator[Fault]:
    entry = project.search.space[key]
    declared = (entry.when or {}) if isinstance(entry, Dimension) else {}
    for name, wanted in declared.items():
        where = f"search.space.{key}.when.{name}"
        wrong = [fault for value in as_list(wanted) for fault in misfits(project, name, value, where)]
        yield from wrong
        possible = drawn[name].outside if name in drawn else None
        if possible is not None and not wrong and all(possible(value) for value in found.when[name]):
            rule = f"a value that search.space gives {name}: {possible(_NOWHERE)}"
            yield Fault(where, rule, wanted, "As it is, the key is never searched.")


_NOWHERE = object()


def _own_value_faults(project: Project, space: Space, said: list[str]) -> Iterator[Fault]:
    """Faults of the project's own values, which are the first trial; of keys of which nothing worse is said."""
    own = resolved(project)
    for key, found in space.drawn.items():
        rule = found.outside(value_at(own, key)) if found.holds(lambda name: value_at(own, name)) else None
        if rule is not None and not any(f"search.space.{key}." in text or repr(key) in text for text in said):
            change = "add the value to" if found.choices else "widen"
            advice = f"The project's own settings are the first trial: {change} search.space.{key}."
            yield Fault(key, f"in its own search space: {rule}", value_at(own, key), advice)


def _memory_faults(project: Project) -> Iterator[Fault]:
    memory = project.search.memory
    if memory is not None:
        try:
            parse_bytes(memory)
        except ValueError:
            yield Fault("search.memory", BYTES_RULE, memory, unit_advice(memory))


def _known_good_faults(project: Project) -> list[Fault]:
    try:
        known_good(project)
    except ConfigError as error:
        return [fault if isinstance(fault, Fault) else Fault(fault) for fault in error.faults]
    return []


def _task_names(project: Project) -> list[str]:
    """Tasks that are scored, and the tasks of our own groups."""
    from tunery.evaluation.task_files import own_tasks, task_folders

    own = own_tasks(task_folders(project.evaluation, project.folder))
    names = list(project.evaluation.tasks)
    for name in names:  # grows while it is read: groups hold groups
        names += [member for member in own[name].members if member not in names] if name in own else []
    return names
