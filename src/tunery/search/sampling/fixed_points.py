"""Points that are known before a study begins: every point of a grid, or a quasi-random sequence.

They are queued with their trials, so that each is tried once, whichever worker takes it. Optuna's own samplers keep a
counter that two workers race for; its grid knows no conditions.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import optuna

from tunery.config.project import Project, resolved
from tunery.search.space.parameters import Label, Parameter, label_of, suggest
from tunery.search.space.space import Settings, declared_settings, labelled, settle, space_of

LARGEST_GRID = 10_000  # points; each would be a training run


def fixed_points(project: Project, known: Sequence[Settings], count: int) -> list[dict[str, Label]]:
    """The parameters of the first `count` trials after the project's own settings and the known-good ones.

    They are fewer than `count` if a grid has no more, and none if the sampler draws them.
    """
    if project.search.sampler == "grid":
        return grid_points(project, [declared_settings(project), *known])[:count]
    return _sobol_points(project, count) if project.search.sampler == "qmc" else []


def grid_points(project: Project, taken: Sequence[Settings] = ()) -> list[dict[str, Label]]:
    """Every combination that the space allows, in an order that the study's seed fixes.

    Args:
        project: Its ranges must have steps; a key whose condition does not hold is in no point.
        taken: Settings, derived keys included, that the study tries already: left out.
    """
    space, own = space_of(project), resolved(project)
    drawn = [space.drawn[key] for key in space.order if key in space.drawn]

    def point(values: Sequence[object]) -> Settings:
        chosen = dict(zip((found.key for found in drawn), values, strict=True))
        # A point whose expression has no value stays: its trial will say so, and be infeasible.
        return settle(space, own, lambda found: chosen[found.key], lenient=True)

    points = map(point, itertools.product(*(found.values() for found in drawn)))
    unique = list({repr(one): one for one in points if one not in taken}.values())
    random.Random(project.search.seed).shuffle(unique)
    return [{key: label_of(value) for key, value in one.items() if key in space.drawn} for one in unique]


def untried_points(project: Project, tried: Sequence[Settings]) -> int:
    """How many points of a grid are not among the settings that trials have."""
    known = [labelled(project, settings) for settings in tried]
    return sum(point not in known for point in grid_points(project))


def grid_size(parameters: Sequence[Parameter]) -> float:
    """How many points a grid has at most; conditions may leave fewer."""
    return math.prod(
        len(found.choices) or (round((found.high - found.low) / found.step) + 1 if found.step else math.inf)
        for found in parameters
    )


def _sobol_points(project: Project, count: int) -> list[dict[str, Label]]:
    """The first points of a scrambled Sobol sequence. Source: Bergstra and Bengio, JMLR 13 (2012)."""
    study = optuna.create_study()  # in memory: it holds the sequence's counter
    trial = study.ask()
    for _, found in sorted(space_of(project).drawn.items()):
        suggest(trial, found)
    sequence = optuna.samplers.QMCSampler(scramble=True, seed=project.search.seed)
    frozen, distributions = study.trials[0], dict(sorted(trial.distributions.items()))
    return [sequence.sample_relative(study, frozen, distributions) for _ in range(count)]
