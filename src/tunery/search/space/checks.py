"""All that can be wrong with a search, found before anything is made: one fault each, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError

from pydantic import BaseModel

from tunery.config.fields import field_at, nearest, value_at
from tunery.config.project import Project, known_keys, resolved
from tunery.config.search import Dimension
from tunery.config.units import BYTES_RULE, parse_bytes, unit_advice
from tunery.errors import ConfigError, Fault
from tunery.search.objectives import objective_faults
from tunery.search.sampling.pruners import FEWEST_WILCOXON_RUNGS, has_validation, prunes
from tunery.search.space.expressions import Expression, ExpressionError, parse
from tunery.search.space.grid import LARGEST_GRID, grid_points, grid_size
from tunery.search.space.known_good import known_good
from tunery.search.space.parameters import Parameter, as_list, parameter
from tunery.search.space.space import Settings, Space, arrange, declared_settings
from tunery.search.space.type_checks import derived_faults, misfits

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
    if search.prune_by == "auto" and not project.training.scores_checkpoints and not has_validation(project):
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
    if search.prune_by == "score" and not project.training.scores_checkpoints:
        advice = "Set training.score_checkpoints: true."
        yield Fault("search.prune_by", "validation/nll when checkpoints are not scored", "score", advice)
    if search.prune_by == "validation/nll" and not has_validation(project):
        advice = "Set data.validation.fraction above 0."
        yield Fault("search.prune_by", "score when there are no validation rows", "validation/nll", advice)
    if search.pruner == "wilcoxon" and checkpoints < FEWEST_WILCOXON_RUNGS:
        rule = f"at least {FEWEST_WILCOXON_RUNGS} when search.pruner is wilcoxon: fewer pairs cannot show a difference"
        yield Fault("training.checkpoints", rule, checkpoints, "Raise it, or use hyperband.")
