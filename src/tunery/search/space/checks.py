"""What can be wrong with search.space: keys, values, conditions, and whether the project's own settings are in it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError
from typing import Any

from pydantic import BaseModel, ValidationError

from tunery.config.faults import faults_of
from tunery.config.fields import field_at, nearest, put_at, value_at
from tunery.config.project import CrossFieldFaults, Project, known_keys, resolved
from tunery.config.search import Dimension
from tunery.data.prompt_template import check_template
from tunery.errors import ConfigError, DataError, Fault
from tunery.search.space.expressions import Expression, ExpressionError, parse
from tunery.search.space.parameters import Parameter, as_list, parameter
from tunery.search.space.space import Space, arrange, settle

# Keys that no trial may change, by their beginning, and why.
_NOT_SEARCHED: Mapping[str, str] = {
    "name": "it names the experiment",
    "adapter.start": "every trial begins with the same adapter",
    "search": "it is how trials are chosen and judged",
    "promotion": "it is how a champion is chosen",
    "tracking": "it decides what is kept of the code, not what is learned",
    "evaluation": "every trial is asked the same questions in the same way",
    "data.validation": "validation loss would not be comparable between trials",
    "training.seed": "trials differ by their settings, not by a hidden seed; search.seeds trains finalists with others",
    "training.checkpoints": "trials are compared, and pruned, at the same checkpoints",
    "training.score_checkpoints": "trials are compared, and pruned, by the same measure",
}
# What an adapter that training begins with has settled.
_SETTLED = (
    *(
        f"adapter.{name}"
        for name in ("method", "rank", "alpha", "target_modules", "target_parameters", "dora", "rslora")
    ),
    *(f"base.{name}" for name in ("model", "revision", "quantization", "double_quantization")),
)
_WITHOUT_VALUE = Fault("").got
_TEMPLATE = "data.prompt_template"
_SAMPLES = 32


def space_faults(project: Project) -> tuple[list[Fault], Space | None]:
    """Faults of the space, and the part of it that can be read; None if keys depend on each other in a circle."""
    faults = [*_key_faults(project), *_template_faults(project)]
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
    for key, expression in derived.items():
        for name in (name for name in expression.names if field_at(Project, name) is None):
            unknown = f"search.space.{key} uses the unknown key {name!r}"
            faults.append(Fault(unknown, advice=nearest(name, known_keys())))
    faults += [fault for key, found in drawn.items() for fault in _condition_faults(project, key, found, drawn)]
    try:
        return faults, arrange(drawn, derived)
    except CycleError as error:
        circle = " -> ".join(map(str, error.args[1]))
        faults.append(Fault(f"search.space: keys depend on each other ({circle})", advice="Break the circle."))
        return faults, None


def _key_faults(project: Project) -> Iterator[Fault]:
    keys, own = list(project.search.space), resolved(project)
    if not keys:
        yield Fault("search.space", "at least one key and its values", {}, "Try {adapter.rank: {choices: [8, 16]}}.")
    for key in keys:
        reason = next((why for start, why in _NOT_SEARCHED.items() if f"{key}.".startswith(f"{start}.")), None)
        if reason is None and key in _SETTLED and project.adapter.start is not None:
            reason = f"{project.adapter.start}, which every trial begins with, has settled it"
        field, above = field_at(Project, key), key.rpartition(".")[0]
        if reason is not None:
            yield Fault(f"search.space names {key!r}, which cannot be searched", reason)
        elif field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield Fault(f"search.space names {key!r}, which is a section", "search the keys in it")
        elif above and value_at(own, above) is None:  # in an entry that its list does not have: data.train.3.weight
            yield Fault(f"search.space names {key!r}, which the project does not have")
        for other in keys:
            if key.startswith(f"{other}."):
                yield Fault(f"search.space names {key!r}, which is inside {other!r}", "search one of them")


def _value_faults(project: Project, key: str, entry: Dimension) -> Iterator[Fault]:
    if entry.choices is not None:
        values = [("choices", choice) for choice in entry.choices]
        if len(set(map(str, entry.choices))) < len(entry.choices):
            yield Fault(f"search.space.{key}.choices", "distinct values", entry.choices)
    else:
        values = [("low", entry.low), ("high", entry.high)]
    for part, value in values:
        yield from _misfits(project, key, value, f"search.space.{key}.{part}")
    if entry.step is not None and parameter(key, entry).whole and entry.step != int(entry.step):
        yield Fault(f"search.space.{key}.step", "a whole number", entry.step)


def _template_faults(project: Project) -> Iterator[Fault]:
    """Prompt templates that cannot be read."""
    entry = project.search.space.get(_TEMPLATE)
    for choice in entry.choices or () if isinstance(entry, Dimension) else ():
        try:
            check_template(str(choice))
        except DataError as error:
            wrong = [fault for fault in error.faults if isinstance(fault, Fault)]
            yield from (replace(fault, key=f"search.space.{_TEMPLATE}.choices: {fault.key}") for fault in wrong)


def _condition_faults(project: Project, key: str, found: Parameter, drawn: Mapping[str, Parameter]) -> Iterator[Fault]:
    entry = project.search.space[key]
    declared = (entry.when or {}) if isinstance(entry, Dimension) else {}
    for name, wanted in declared.items():
        where = f"search.space.{key}.when.{name}"
        wrong = [fault for value in as_list(wanted) for fault in _misfits(project, name, value, where)]
        yield from wrong
        if name in drawn and not wrong and all(map(drawn[name].outside, found.when[name])):
            rule = f"a value that search.space gives {name}: {drawn[name].outside(object())}"
            yield Fault(where, rule, wanted, "As it is, the key is never searched.")


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


def _misfits(project: Project, key: str, value: Any, where: str) -> Iterator[Fault]:
    """Why the project refuses a value at a key; its combination with other keys is checked when they are drawn."""
    tree = resolved(project)
    put_at(tree, key, value)
    try:
        Project.model_validate(tree)
    except ValidationError as error:
        if any(isinstance(detail.get("ctx", {}).get("error"), CrossFieldFaults) for detail in error.errors()):
            return
        for fault in faults_of(error):
            if fault.got is _WITHOUT_VALUE:
                yield Fault(f"{where} {value!r}", fault.rule, advice=fault.advice)
            else:
                yield replace(fault, key=where, got=value, advice="")


def derived_faults(project: Project, space: Space) -> Iterator[Fault]:
    """Faults of derived keys that no trial could have: of the wrong type or out of range, whatever is drawn.

    If only some of the values fail, they make infeasible trials, as any combination may.

    Args:
        project: What is searched.
        space: Its space, without any other fault.
    """
    chance = random.Random(0)
    samples = [_faults_by_key(project, space, chance) for _ in range(_SAMPLES if space.derived else 0)]
    for key in space.derived:
        found = [sample[key] for sample in samples if key in sample]
        if found and len(found) == len(samples):
            yield found[0]


def _faults_by_key(project: Project, space: Space, chance: random.Random) -> Mapping[str, Fault]:
    """What is wrong with each derived key in one trial, drawn at random."""
    try:
        settings = settle(space, resolved(project), lambda found: _any_of(found, chance))
    except ConfigError as error:
        named = {fault.key: fault for fault in error.faults if isinstance(fault, Fault)}
        return {key: replace(fault, key=f"search.space.{key}") for key, fault in named.items()}
    faults: dict[str, Fault] = {}
    for key, expression in space.derived.items():
        where = f"search.space.{key} ({expression.text!r})"
        for fault in _misfits(project, key, settings[key], where):
            rounded = isinstance(settings[key], float)
            faults.setdefault(key, replace(fault, advice=f"Try round({expression.text})." if rounded else fault.advice))
    return faults


def _any_of(found: Parameter, chance: random.Random) -> Any:
    if found.choices or found.step:
        return chance.choice(found.values())
    value = chance.uniform(found.low, found.high)
    return round(value) if found.whole else value
