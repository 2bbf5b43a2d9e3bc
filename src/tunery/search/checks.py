"""All that can be wrong with a search, found before anything is made: one fault each, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunery.config.load import as_options
from tunery.config.project import Project
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.search.objectives import objective_faults
from tunery.search.packing import pack_faults
from tunery.search.sampling.fixed_points import LARGEST_GRID, grid_points, grid_size
from tunery.search.sampling.pruners import (
    FEWEST_WILCOXON_RUNGS,
    changes_loss,
    has_validation,
    prune_metric,
    prunes,
)
from tunery.search.space.checks import derived_faults, own_value_faults, space_faults
from tunery.search.space.known_good import known_good
from tunery.search.space.space import Settings, Space, declared_settings


def check_search(project: Project) -> None:
    """Check the section `search` of a project against the project, without making or loading anything.

    Raises:
        ConfigError: With every fault of the space, the sampler, the pruner, objectives, constraints and known-good
            files. Entries runs:/ of search.known_good, and metrics of tasks, are checked when they are read.
    """
    faults, space = space_faults(project)
    faults += _memory_faults(project)
    faults += objective_faults(project, _task_names(project))
    if space is not None:
        faults += own_value_faults(project, space, faults)
        faults += _grid_faults(space) if project.search.sampler == "grid" else []
        faults += _cmaes_faults(project, space) if project.search.sampler == "cmaes" else []
        faults += _pruner_faults(project)
        faults += _repeat_faults(project)
        faults += _racing_faults(project)
        faults += pack_faults(project) if isinstance(project.search.pack, int) else []
        # What follows takes a space that holds the project's own settings.
        faults += [] if faults else derived_faults(project, space)
        faults += [] if faults else _given_faults(project)
    if faults:
        raise ConfigError(project.place, as_options(faults, project.overridden))


def _memory_faults(project: Project) -> Iterator[Fault]:
    memory = project.search.memory
    if memory is not None:
        try:
            parse_bytes(memory)
        except ValueError:
            yield Fault("search.memory", BYTES_RULE, memory, unit_advice(memory))


def _task_names(project: Project) -> list[str]:
    """Tasks that are scored, and the tasks of our own groups."""
    from tunery.evaluation.task_files import own_tasks, task_folders

    own = own_tasks(task_folders(project.evaluation, project.folder))
    names = project.evaluation.names
    for name in names:  # grows while it is read: groups hold groups
        names += [member for member in own[name].members if member not in names] if name in own else []
    return names


def _given_faults(project: Project) -> list[Fault]:
    """Faults of the known-good settings, and of the total number of trials, of which they are the first."""
    try:
        known = known_good(project)
    except ConfigError as error:
        return [fault if isinstance(fault, Fault) else Fault(fault) for fault in error.faults]
    trials = project.search.trials
    if trials == "all":
        return []
    faults = total_faults("search.trials", trials, known)
    if not faults and project.search.sampler == "grid":
        taken = [declared_settings(project), *known]
        most = len(taken) + len(grid_points(project, taken))
        rule = f"at most {most} when search.sampler is grid: each point once, and the project's own settings"
        faults += [Fault("search.trials", rule, trials)] if trials > most else []
    return faults


def total_faults(key: str, trials: int, known: Sequence[Settings]) -> list[Fault]:
    """A fault if the settings that are tried before the sampler's are more than the total number of trials."""
    rule = f"at least {1 + len(known)}: the project's own settings and those of search.known_good"
    return [Fault(key, rule, trials)] if trials <= len(known) else []


def _repeat_faults(project: Project) -> Iterator[Fault]:
    search = project.search
    if search.trials == "all" and search.sampler != "grid":
        yield Fault("search.trials", "a number unless search.sampler is grid", "all", "Other samplers have no end.")
    if search.repeats is None:
        return
    if search.sampler != "grid":
        yield Fault("search.sampler", "grid when search.repeats is set", search.sampler)
    if search.trials != "all":
        rule = "all when search.repeats is set: every point is trained so often"
        yield Fault("search.trials", rule, search.trials)
    if search.pruner != "none":
        rule = "none when search.repeats is set: the mean of repeats that were ended early says nothing"
        yield Fault("search.pruner", rule, search.pruner)


def _racing_faults(project: Project) -> Iterator[Fault]:
    search = project.search
    if search.racing is None:
        return
    if search.objectives not in ({"score": "maximize"}, {"delta/score": "maximize"}):
        rule = "unset unless search.objectives is {score: maximize}: a race is run item by item, over the score"
        yield Fault("search.racing", rule, search.racing)
    if search.repeats is not None:
        rule = "unset when search.repeats is set: a mean needs all repeats whole"
        yield Fault("search.racing", rule, search.racing)
    if project.training.scores_checkpoints:
        rule = "unset when training.score_checkpoints is true: the pruner compares scores at checkpoints then"
        yield Fault("search.racing", rule, search.racing)


def pruner_note(project: Project) -> str | None:
    """A note if search.pruner is set but does nothing; else None."""
    search = project.search
    if search.pruner == "none":
        return None
    if not prunes(search):
        return f"no trial is pruned: search.pruner ({search.pruner}) compares by one objective, and there are several"
    if prune_metric(project) is None and (changing := changes_loss(project)):
        return (
            f"no trial is pruned: search.space has {changing[0]}, so losses cannot be compared; to prune by score, "
            "set training.score_checkpoints: true"
        )
    if prune_metric(project) is None:
        return f"no trial is pruned: nothing is measured at checkpoints for search.pruner ({search.pruner}) to compare"
    return None


def _grid_faults(space: Space) -> Iterator[Fault]:
    drawn = list(space.drawn.values())
    stepless = [found for found in drawn if not found.choices and found.step is None]
    rule = "choices, or a range with step, when search.sampler is grid"
    for found in stepless:
        yield Fault(f"search.space.{found.key}", rule, {"low": found.low, "high": found.high})
    if not stepless and grid_size(drawn) > LARGEST_GRID:
        rule = f"a space of at most {LARGEST_GRID} points when search.sampler is grid"
        yield Fault("search.space", rule, f"{grid_size(drawn):.3g} points", "Take larger steps.")


def _cmaes_faults(project: Project, space: Space) -> Iterator[Fault]:
    search = project.search
    if len(search.objectives) > 1:
        rule = "tpe, nsga2, gp, random, qmc or grid when there are several objectives"
        yield Fault("search.sampler", rule, "cmaes", "CMA-ES optimises one.")
    if search.constraints:
        yield Fault("search.sampler", "tpe, nsga2 or gp when there are constraints", "cmaes", "CMA-ES ignores them.")
    if all(found.choices for found in space.drawn.values()):
        rule = "another when search.space has choices only"
        yield Fault("search.sampler", rule, "cmaes", "CMA-ES moves along ranges: give low and high.")


def _pruner_faults(project: Project) -> Iterator[Fault]:
    search, checkpoints = project.search, project.training.checkpoint_count
    if not prunes(search):
        return
    if search.prune_by == "score" and not project.training.scores_checkpoints:
        advice = "Set training.score_checkpoints: true."
        yield Fault("search.prune_by", "validation/nll when checkpoints are not scored", "score", advice)
    if search.prune_by == "validation/nll" and not has_validation(project):
        advice = "Set data.validation.fraction above 0."
        yield Fault("search.prune_by", "score when there are no validation rows", "validation/nll", advice)
    if search.prune_by == "validation/nll" and (changing := changes_loss(project)):
        rule = f"score or auto when search.space has {changing[0]}, which changes what the loss is a mean of"
        yield Fault("search.prune_by", rule, "validation/nll", "Set training.score_checkpoints: true.")
    if search.pruner == "wilcoxon" and checkpoints < FEWEST_WILCOXON_RUNGS:
        rule = f"at least {FEWEST_WILCOXON_RUNGS} when search.pruner is wilcoxon: fewer pairs cannot show a difference"
        yield Fault("training.checkpoints", rule, checkpoints, "Raise it, or use hyperband.")
