"""Whether the project takes the values that a search would give its keys, found before any trial."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from tunery.config.faults import faults_of
from tunery.config.fields import put_at
from tunery.config.project import CrossFieldFaults, Project, resolved
from tunery.errors import ConfigError, Fault
from tunery.search.space.parameters import Parameter
from tunery.search.space.space import Space, settle

_WITHOUT_VALUE = Fault("").got
_SAMPLES = 32


def misfits(project: Project, key: str, value: Any, where: str) -> Iterator[Fault]:
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
        settings = settle(project, lambda found: _any_of(found, chance))
    except ConfigError as error:
        named = {fault.key: fault for fault in error.faults if isinstance(fault, Fault)}
        return {key: replace(fault, key=f"search.space.{key}") for key, fault in named.items()}
    faults: dict[str, Fault] = {}
    for key, expression in space.derived.items():
        where = f"search.space.{key} ({expression.text!r})"
        for fault in misfits(project, key, settings[key], where):
            rounded = isinstance(settings[key], float)
            faults.setdefault(key, replace(fault, advice=f"Try round({expression.text})." if rounded else fault.advice))
    return faults


def _any_of(found: Parameter, chance: random.Random) -> Any:
    if found.choices or found.step:
        return chance.choice(found.values())
    value = chance.uniform(found.low, found.high)
    return round(value) if found.whole else value
