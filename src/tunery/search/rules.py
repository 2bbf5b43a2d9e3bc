"""What samplers and pruners need of a project, and which of them goes with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.config.project import Project
from tunery.errors import Fault
from tunery.search.grid import LARGEST_GRID, grid_points, grid_size
from tunery.search.sampling.pruners import FEWEST_WILCOXON_RUNGS, has_validation, prunes, scores_checkpoints
from tunery.search.space import Settings, Space, declared_settings


def rule_faults(project: Project, space: Space) -> Iterator[Fault]:
    """Faults of the sampler and the pruner."""
    if project.search.sampler == "grid":
        yield from _grid_faults(space)
    if project.search.sampler == "cmaes":
        yield from _cmaes_faults(project, space)
    yield from _pruner_faults(project)


def count_faults(project: Project, space: Space, known: Sequence[Settings]) -> list[Fault]:
    """Faults of the number of trials, given the settings that are tried before the sampler's."""
    trials, given = project.search.trials, 1 + len(known)
    if trials < given:
        rule = f"at least {given}: the project's own settings and those of search.known_good"
        return [Fault("search.trials", rule, trials)]
    if project.search.sampler != "grid":
        return []
    taken = [declared_settings(project), *known]
    most = len(taken) + len(grid_points(project, taken))
    if trials <= most:
        return []
    rule = f"at most {most} when search.sampler is grid: each point once, and the project's own settings"
    return [Fault("search.trials", rule, trials)]


def pruner_note(project: Project) -> str | None:
    """What to say where search.pruner does nothing, although it is set."""
    search = project.search
    if search.pruner == "none":
        return None
    if not prunes(search):
        return f"no trial is pruned: search.pruner ({search.pruner}) compares by one objective, and there are several"
    if search.prune_by == "auto" and not scores_checkpoints(project) and not has_validation(project):
        return f"no trial is pruned: nothing is measured at checkpoints for search.pruner ({search.pruner}) to compare"
    return None


def _grid_faults(space: Space) -> Iterator[Fault]:
    drawn = list(space.drawn.values())
    stepless = [found for found in drawn if not found.choices and found.step is None]
    for found in stepless:
        ends = {"low": found.low, "high": found.high}
        rule = "choices, or a range with step, when search.sampler is grid"
        yield Fault(f"search.space.{found.key}", rule, ends)
    if not stepless and grid_size(drawn) > LARGEST_GRID:
        rule = f"a space of at most {LARGEST_GRID} points when search.sampler is grid"
        yield Fault("search.space", rule, f"{grid_size(drawn):.3g} points", "Take larger steps.")


def _cmaes_faults(project: Project, space: Space) -> Iterator[Fault]:
    search = project.search
    if len(search.objectives) > 1:
        rule = "tpe, nsga2, gp, random, qmc or grid when there are several objectives"
        yield Fault("search.sampler", rule, "cmaes", "CMA-ES knows one.")
    if search.constraints:
        yield Fault("search.sampler", "tpe, nsga2 or gp when there are constraints", "cmaes", "CMA-ES ignores them.")
    if all(found.choices for found in space.drawn.values()):
        rule = "another when search.space has choices only"
        yield Fault("search.sampler", rule, "cmaes", "CMA-ES moves along ranges: give low and high.")


def _pruner_faults(project: Project) -> Iterator[Fault]:
    search, checkpoints = project.search, project.training.checkpoints
    if not prunes(search):
        return
    if search.prune_by == "score" and not scores_checkpoints(project):
        advice = "Set training.score_checkpoints: true."
        yield Fault("search.prune_by", "validation/nll when checkpoints are not scored", "score", advice)
    if search.prune_by == "validation/nll" and not has_validation(project):
        advice = "Set data.validation.fraction above 0."
        yield Fault("search.prune_by", "score when there are no validation rows", "validation/nll", advice)
    if search.pruner == "wilcoxon" and checkpoints < FEWEST_WILCOXON_RUNGS:
        rule = f"at least {FEWEST_WILCOXON_RUNGS} when search.pruner is wilcoxon: fewer pairs cannot show a difference"
        yield Fault("training.checkpoints", rule, checkpoints, "Raise it, or use hyperband.")
