"""What a trial is judged by: the values of its objectives, and its distance to each constraint."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tunery.config.fields import nearest
from tunery.config.project import Project
from tunery.config.search import SearchConfig
from tunery.config.suites import SUITES
from tunery.config.units import parse_bytes
from tunery.errors import ConfigError, Fault, RunStopped
from tunery.search.sampling.pruners import changes_loss, has_validation

_SCORES = ("score", "base/score", "delta/score")
_MEASURED = ("train_seconds", "peak_memory_bytes", "model_bytes", "trainable_parameters")
_BY_TASK = re.compile(r"(lm_eval|base|delta)/([^/]+)(?:/(.+))?")
_BOUND = re.compile(r"\s*(<=|>=)\s*(.+?)\s*")
_BOUND_RULE = "<= or >= and a number, such as '>= -0.01' or '<= 22 GiB'"


@dataclass(frozen=True)
class Bound:
    """A constraint. `sign` is 1 for at most `limit`, -1 for at least."""

    sign: int
    limit: float

    def excess(self, value: float) -> float:
        """By how much a value breaks the bound; 0 or below if it keeps it."""
        return self.sign * (value - self.limit)


def parse_bound(metric: str, text: str) -> Bound:
    """Read "<= 22 GiB" or ">= -0.01"; amounts of memory only for metrics in bytes.

    Raises:
        ValueError: If it is neither.
    """
    found = _BOUND.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not {_BOUND_RULE}")
    try:
        limit = float(found[2])
    except ValueError:
        if not metric.endswith("_bytes"):
            raise
        limit = parse_bytes(found[2])
    if not math.isfinite(limit):
        raise ValueError(f"{text!r} is not finite")
    return Bound(1 if found[1] == "<=" else -1, limit)


def objective_values(metrics: Mapping[str, float], objectives: Mapping[str, str]) -> list[float]:
    """A trial's value of each objective, in their order.

    Raises:
        ConfigError: If the trial has no such metric.
        RunStopped: If one is not finite, with failure nan.
    """
    return [_value(metrics, name, "objectives") for name in objectives]


def constraint_values(metrics: Mapping[str, float], constraints: Mapping[str, str]) -> dict[str, float]:
    """How far each constraint is broken, in the metric's units, as trial.set_constraint takes it: at most 0 is kept.

    Raises:
        ConfigError: If the trial has no such metric, or a constraint cannot be read.
        RunStopped: If a metric is not finite, with failure nan.
    """
    values = {}
    for name, text in constraints.items():
        try:
            bound = parse_bound(name, text)
        except ValueError:
            raise ConfigError("search", Fault(f"search.constraints.{name}", _BOUND_RULE, text)) from None
        values[name] = bound.excess(_value(metrics, name, "constraints"))
    return values


def objective_faults(project: Project, task_names: Collection[str]) -> Iterator[Fault]:
    """Objectives and constraints that no trial of the project can have, as far as can be said before one ran.

    Args:
        task_names: Tasks, and tasks of groups, that are known to be scored.
    """
    search = project.search
    if not search.objectives:
        yield Fault("search.objectives", "at least one metric", {}, "Try {score: maximize}.")
    for metric in search.objectives:
        yield from _metric_faults("search.objectives", metric, project, task_names)
        if metric.startswith("base/"):
            advice = f"Try {metric.replace('base/', 'delta/', 1)!r}."
            yield Fault(f"search.objectives names {metric!r}", "the same in every trial", advice=advice)
    for metric, text in search.constraints.items():
        unknown = list(_metric_faults("search.constraints", metric, project, task_names))
        yield from unknown
        try:
            # Whether an unknown metric is an amount of memory is unknown, too.
            parse_bound("any_bytes" if unknown else metric, text)
        except ValueError:
            yield Fault(f"search.constraints.{metric}", _BOUND_RULE, text)


def check_task_metrics(project: Project, tasks: Mapping[str, Mapping[str, bool]]) -> None:
    """Check objectives and constraints that name a task's metric, before anything is trained.

    Args:
        tasks: The metrics that each loaded task may have, and whether more of it is better.

    Raises:
        ConfigError: With every one that its task has not, and every objective that looks for the worst.
    """
    faults = []
    for section, metric in _named(project.search):
        found = _BY_TASK.fullmatch(metric)
        if found is not None and found[3] and found[2] in tasks:
            kind, task, name = found.groups()
            if name.removesuffix("_stderr") not in tasks[task]:
                faults.append(_unknown(section, metric, [f"{kind}/{task}/{one}" for one in tasks[task]]))
            elif section == "search.objectives" and not name.endswith("_stderr"):
                faults += _direction_faults(metric, project.search.objectives[metric], tasks[task][name])
    if faults:
        raise ConfigError("search", faults)


def _direction_faults(metric: str, direction: str, higher_is_better: bool) -> Iterator[Fault]:
    wanted, which = ("maximize", "more") if higher_is_better else ("minimize", "less")
    if direction != wanted:
        yield Fault(f"search.objectives.{metric}", f"{wanted}: {which} of this metric is better", direction)


def check_metrics(project: Project, produced: Collection[str]) -> None:
    """Check objectives and constraints against the metrics that a trial was seen to produce.

    Raises:
        ConfigError: With every one that is not among them.
    """
    named = [(section, metric) for section, metric in _named(project.search) if metric not in produced]
    if named:
        raise ConfigError("search", [_unknown(section, metric, produced) for section, metric in named])


def _named(search: SearchConfig) -> list[tuple[str, str]]:
    """Each metric that the project names, after the key that names it."""
    return [
        *(("search.objectives", metric) for metric in search.objectives),
        *(("search.constraints", metric) for metric in search.constraints),
    ]


def _value(metrics: Mapping[str, float], name: str, section: str) -> float:
    if name not in metrics:
        raise ConfigError("search", _unknown(f"search.{section}", name, metrics))
    value = float(metrics[name])
    if not math.isfinite(value):
        stopped = RunStopped(f"search.{section}: {name} is {value}, but must be finite")
        stopped.failure = "nan"
        raise stopped
    return value


def _unknown(section: str, metric: str, known: Collection[str]) -> Fault:
    advice = nearest(metric, known) or f"A trial has: {', '.join(sorted(known))}."
    return Fault(f"{section} names {metric!r}, which no trial has", advice=advice)


def _metric_faults(section: str, metric: str, project: Project, task_names: Collection[str]) -> Iterator[Fault]:
    by_task = _BY_TASK.fullmatch(metric)
    if metric in _SCORES:
        if not project.evaluation.names:
            advice = "Name a task in evaluation.tasks, or set search.objectives: {validation/nll: minimize}."
            yield Fault(f"{section} names {metric!r}, but evaluation.tasks is empty", advice=advice)
    elif metric == "validation/nll":
        if not project.training.trains:
            yield Fault(
                f"{section} names {metric!r}, but training.method icl measures no loss", advice="Judge by score."
            )
        elif not has_validation(project):
            advice = "Set data.validation.fraction above 0."
            yield Fault(f"{section} names {metric!r}, but there are no validation rows", advice=advice)
        if changing := changes_loss(project):
            rule = f"search.space.{changing[0]} changes what the loss is a mean of, so that losses cannot be compared"
            yield Fault(f"{section} names {metric!r}", rule, advice="Judge by score, or search another key.")
    elif metric in _MEASURED:
        return
    elif by_task is not None and (by_task[3] or by_task[1] == "delta"):
        yield from _task_faults(section, metric, by_task[2], task_names)
    else:
        by_tasks = [f"delta/{task}" for task in sorted(task_names)]
        yield _unknown(section, metric, [*_SCORES, "validation/nll", *_MEASURED, *by_tasks])


def _task_faults(section: str, metric: str, task: str, task_names: Collection[str]) -> Iterator[Fault]:
    # lm-eval names a group's tasks after it: mmlu_abstract_algebra. Its index, which knows, takes seconds to read.
    if task in task_names or any(task.startswith(f"{name}_") for name in task_names):
        return
    if task in SUITES:
        yield Fault(f"{section} names {metric!r}, but {task!r} is a suite", f"it means {', '.join(SUITES[task])}")
        return
    advice = nearest(task, task_names) or f"Tasks are: {', '.join(sorted(task_names)) or 'none'}."
    yield Fault(f"{section} names {metric!r}, but {task!r} is not in evaluation.tasks", advice=advice)
