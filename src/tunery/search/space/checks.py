"""What can be wrong with search.space: keys, values, conditions, and whether the project's own settings are in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError

from pydantic import BaseModel

from tunery.config.fields import field_at, nearest, value_at
from tunery.config.project import Project, known_keys, resolved
from tunery.config.search import Dimension
from tunery.errors import Fault
from tunery.search.space.expressions import Expression, ExpressionError, parse
from tunery.search.space.parameters import Parameter, as_list, parameter
from tunery.search.space.space import Space, arrange
from tunery.search.space.type_checks import misfits

# Keys that no trial may change, by their beginning, and why.
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


def space_faults(project: Project) -> tuple[list[Fault], Space | None]:
    """Faults of the space, and the part of it that can be read; None if keys depend on each other in a circle."""
    faults = list(_key_faults(project))
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
        return faults, arrange(drawn, derived)
    except CycleError as error:
        circle = " -> ".join(map(str, error.args[1]))
        faults.append(Fault(f"search.space: keys depend on each other ({circle})", advice="Break the circle."))
        return faults, None


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
                yield Fault(f"search.space names {key!r}, which is inside {other!r}", "search one of them")


def _is_there(project: Project, key: str) -> bool:
    """Whether a key in a list's entry has its entry: data.train.3.weight."""
    above = key.rpartition(".")[0]
    return not above or value_at(resolved(project), above) is not None


def _value_faults(project: Project, key: str, entry: Dimension) -> Iterator[Fault]:
    if entry.choices is not None:
        values = [("choices", choice) for choice in entry.choices]
        texts = [str(value) for _, value in values]
        if len(set(texts)) < len(texts):
            yield Fault(f"search.space.{key}.choices", "distinct values", entry.choices)
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


def own_value_faults(project: Project, space: Space, known: Sequence[Fault]) -> Iterator[Fault]:
    """Faults of the project's own values, which are the first trial; none for keys that have a fault already."""
    said = list(map(str, known))
    own = resolved(project)
    for key, found in space.drawn.items():
        rule = found.outside(value_at(own, key)) if found.holds(lambda name: value_at(own, name)) else None
        if rule is not None and not any(f"search.space.{key}." in text or repr(key) in text for text in said):
            change = "add the value to" if found.choices else "widen"
            advice = f"The project's own settings are the first trial: {change} search.space.{key}."
            yield Fault(key, f"in its own search space: {rule}", value_at(own, key), advice)
