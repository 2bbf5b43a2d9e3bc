"""Trials, finalists, and all that a study's report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunery.records.scores import Difference

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class TrialRow:
    """One trial of a study, as a table shows it."""

    number: int  # its place in the study, from 0: the project's own settings
    state: str  # complete, pruned, failed, running or waiting
    settings: Mapping[str, object]  # searched keys and derived ones, with their values
    values: Mapping[str, float]  # objectives; empty unless complete
    metrics: Mapping[str, float]  # all that was measured, on dev items
    feasible: bool = True  # whether every constraint holds
    failure: str | None = None  # oom, nan, timeout, infeasible, killed or error
    reason: str | None = None  # a sentence for a person
    run_id: str | None = None
    seconds: float | None = None
    attempts: int = 1  # how often it was started
    name: str = ""  # what differs from the project's settings
    seed: int | None = None  # of a repeat; None where every trial of the search has the project's own


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained with several seeds."""

    trial: int  # number of the trial that found it, or of its first repeat
    name: str
    settings: Mapping[str, object]
    seeds: tuple[int, ...]
    dev: tuple[float, ...]  # scores on dev items, one a seed; empty where no task is scored
    locked: tuple[float, ...]  # scores on locked items, one a seed; empty until they were scored
    run_ids: tuple[str, ...]
    own: bool = False  # whether these are the project's own settings
    values: tuple[float, ...] = ()  # the first objective, one a seed: what the winner is chosen by
    # The other objectives, one value a seed: they decide between equal means of the first.
    further: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # Why it cannot win: a bound that it breaks on the mean of its seeds, or a seed that failed.
    refused: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """Everything that a study's report shows."""

    name: str
    project: str
    run_id: str  # its trials' runs are children of it
    # Metric -> maximize or minimize; the first decides who is a finalist and who wins, each further one between those
    # that are equal so far.
    objectives: Mapping[str, str]
    constraints: Mapping[str, str]  # metric -> bound, as the project says it
    sampler: str
    pruner: str
    seed: int
    trials: Sequence[TrialRow]
    finalists: Sequence[Finalist] = ()
    # Number of the trial whose configuration has the best mean of the first objective over its seeds.
    winner: int | None = None
    base_dev: float | None = None  # the base's own scores
    base_locked: float | None = None
    over_base: Difference | None = None  # gain of the winner on locked items
    over_own: Difference | None = None  # the same over the project's own settings; None when these win
    start: str | None = None  # the adapter that every trial began with, the parent
    parent_dev: float | None = None  # its scores
    parent_locked: float | None = None
    over_parent: Difference | None = None  # gain of the winner on locked items
    model_version: str | None = None  # "name/3" of the winner's adapter
    seconds: float = 0.0
    notes: Sequence[str] = ()
    repeats: int | None = None  # how often each configuration was to be trained; None in a search with finals
    # Searched settings that change what a validation loss is a mean of: losses of trials that differ in one of these
    # cannot be ranked together.
    loss_settings: tuple[str, ...] = ()
    untried: int | None = None  # points of a grid that no trial has; None for samplers that have no end
    configurations: tuple[Finalist, ...] = ()  # of a study with repeats, all of them; the finalists are the best
