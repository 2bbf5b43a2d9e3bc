"""Every point of a space once, for the sampler grid: each slot of a study has its own, whoever serves it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.config.fields import value_at
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError
from tunery.search.space.parameters import Label, Parameter
from tunery.search.space.space import Settings, Space, derive, labelled, space_of

LARGEST_GRID = 10_000  # points; each would be a training


def grid_points(project: Project, taken: Sequence[Settings] = ()) -> list[dict[str, Label]]:
    """Every combination that the space allows, as Optuna is given it, in an order that the study's seed fixes.

    Args:
        project: Its ranges must have steps; a key whose condition does not hold is in no point.
        taken: Settings, derived keys included, that a study tries anyway: left out.
    """
    points = [point for point in _points(project) if point not in list(taken)]
    random.Random(project.search.seed).shuffle(points)
    return [labelled(project, point) for point in points]


def grid_size(parameters: Sequence[Parameter]) -> float:
    """How many points a grid has at most; conditions may leave fewer."""
    return math.prod(
        len(found.choices) or (round((found.high - found.low) / found.step) + 1 if found.step else math.inf)
        for found in parameters
    )


def _points(project: Project) -> Iterator[Settings]:
    yield from _complete(space_of(project), resolved(project), 0, {})


def _complete(space: Space, own: Mapping[str, Any], done: int, settings: Settings) -> Iterator[Settings]:
    """Decide the keys from `done` on, each in every way that it can be decided."""
    if done == len(space.order):
        yield dict(settings)
        return

    def value_of(name: str) -> Any:
        return settings[name] if name in settings else value_at(own, name)

    key = space.order[done]
    if key in space.derived:
        yield from _complete(space, own, done + 1, settings | _derived(space, key, value_of))
    elif not space.drawn[key].holds(value_of):
        yield from _complete(space, own, done + 1, settings)
    else:
        for value in space.drawn[key].values():
            yield from _complete(space, own, done + 1, settings | {key: value})


def _derived(space: Space, key: str, value_of: Any) -> Settings:
    try:
        return {key: derive(key, space.derived[key], value_of)}
    except ConfigError:  # the trial itself will say so, and be infeasible
        return {}
