"""The space of a project: what a trial draws, in which order, and what a trial's settings make of the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from tunery.config.fields import put_at, value_at
from tunery.config.load import project_from
from tunery.config.project import Project, resolved
from tunery.config.search import Dimension
from tunery.errors import ConfigError, Fault
from tunery.reporting.text import short_names
from tunery.search.space.expressions import Expression, ExpressionError, parse
from tunery.search.space.parameters import Label, Parameter, kept_at, label_of, parameter, short_text, suggest

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

OWN_TRIAL = 0  # the project's own settings are the first trial of every study
# User attributes of an Optuna trial: which of the queued trials it serves; of a repeat, the trial that it repeats, and
# the seed.
QUEUE_KEY, REPEATS, SEED = "queue_key", "repeats", "seed"
Settings = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """A project's space. `order` is such that each key comes after the keys that it depends on."""

    order: tuple[str, ...]
    drawn: Mapping[str, Parameter]
    derived: Mapping[str, Expression]


def space_of(project: Project) -> Space:
    """The space that search.space declares; `check_search` says what may be wrong with it.

    Raises:
        ExpressionError, graphlib.CycleError: If a derived key cannot be read, or keys depend on each other.
    """
    searched = project.search.space
    drawn = {key: parameter(key, entry) for key, entry in searched.items() if isinstance(entry, Dimension)}
    derived = {key: parse(entry) for key, entry in searched.items() if isinstance(entry, str)}
    return arrange(drawn, derived)


def arrange(drawn: Mapping[str, Parameter], derived: Mapping[str, Expression]) -> Space:
    """Drawn and derived keys in an order in which each finds its values. The order of lines in the file is none.

    Raises:
        graphlib.CycleError: If keys depend on each other.
    """
    used = {key: list(found.when) for key, found in drawn.items()} | {key: derived[key].names for key in derived}
    needs = {key: [name for name in used[key] if name in used] for key in sorted(used)}
    return Space(tuple(TopologicalSorter(needs).static_order()), drawn, derived)


def is_own(trial: optuna.Trial | FrozenTrial) -> bool:
    """Whether a trial has the project's own settings, with whatever seed."""
    key = trial.user_attrs.get(QUEUE_KEY)
    return bool(trial.user_attrs.get(REPEATS, key) == OWN_TRIAL)


def draw(trial: optuna.Trial, project: Project) -> Settings:
    """A trial's settings: each key drawn, derived or left to the project, in the order in which they depend.

    The first trial takes the project exactly as it is declared: nothing is derived.

    Raises:
        ConfigError: If an expression has no value for what was drawn.
    """
    space = space_of(project)
    if is_own(trial):
        for key in own_settings(project):
            suggest(trial, space.drawn[key])
        return declared_settings(project)
    return settle(space, resolved(project), lambda found: suggest(trial, found))


def settle(
    space: Space, own: Mapping[str, Any], choose: Callable[[Parameter], Any], *, lenient: bool = False
) -> Settings:
    """Settings whose drawn keys `choose` decides; conditions and expressions see what was decided before.

    Args:
        space: The keys, in their order.
        own: The resolved project, which gives every other key.
        choose: Returns a parameter's value.
        lenient: Leave out a key whose expression has no value.

    Raises:
        ConfigError: If an expression has no value.
    """
    settings: Settings = {}

    def value_of(key: str) -> Any:
        return settings[key] if key in settings else value_at(own, key)

    for key in space.order:
        if key in space.derived:
            expression = space.derived[key]
            try:
                value = expression.value({name: value_of(name) for name in expression.names})
            except ExpressionError as error:
                if not lenient:
                    raise ConfigError("search.space", Fault(key, str(error))) from None
            else:
                settings[key] = kept_at(key, value)
        elif space.drawn[key].holds(value_of):
            settings[key] = choose(space.drawn[key])
    return settings


def own_settings(project: Project) -> Settings:
    """The project's own values of the keys that are drawn, if their conditions hold: those of the first trial."""
    own, space = resolved(project), space_of(project)
    values = {key: value_at(own, key) for key in space.order if key in space.drawn}
    return {key: value for key, value in values.items() if space.drawn[key].holds(lambda name: value_at(own, name))}


def declared_settings(project: Project) -> Settings:
    """`own_settings` with the declared values of derived keys."""
    own = resolved(project)
    return own_settings(project) | {key: value_at(own, key) for key in space_of(project).derived}


def labelled(project: Project, settings: Mapping[str, Any]) -> dict[str, Label]:
    """Settings as Optuna is given them by enqueue_trial: drawn keys only, lists as their JSON."""
    drawn = space_of(project).drawn
    return {key: label_of(value) for key, value in settings.items() if key in drawn}


def with_settings(project: Project, settings: Mapping[str, Any]) -> Project:
    """The project with these settings laid over it.

    Raises:
        ConfigError: If the values, or their combination, are not allowed.
    """
    tree = resolved(project)
    for key, value in settings.items():
        put_at(tree, key, value)
    return project_from(tree, f"trial {name_of(settings, project)}", project.folder)


def name_of(settings: Mapping[str, Any], project: Project) -> str:
    """What differs from the project's own settings: "learning_rate=0.001, rank=8", or "as declared".

    A derived key follows from the others: it is named where nothing else differs.
    """
    own, short, derived = resolved(project), short_names(project.search.space), space_of(project).derived
    # In the order of the space; settings of an earlier space come last.
    keys = [*(key for key in short if key in settings), *(key for key in settings if key not in short)]
    changed = [key for key in keys if settings[key] != value_at(own, key)]
    drawn = [key for key in changed if key not in derived]
    return ", ".join(f"{short.get(key, key)}={short_text(settings[key])}" for key in drawn or changed) or "as declared"
