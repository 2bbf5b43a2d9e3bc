"""Optuna's trials -> rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.records import TrialRow
from tunery.search.objectives import constraint_values
from tunery.search.report.facts import losses
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY
from tunery.search.study import queue
from tunery.search.study.stopwatch import SECONDS

SETTINGS, NAME = "settings", "name"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def rows(study: optuna.Study, project: Project) -> list[TrialRow]:
    """The trial that counts for each number, in their order."""
    trials = queue.current_trials(study)
    return [row_of(trials[number], project) for number in sorted(trials, key=int)]


def row_of(trial: FrozenTrial, project: Project) -> TrialRow:
    """One trial. If its settings made it fail, it is pruned to Optuna and failed here."""
    known = trial.user_attrs
    failure = known.get(queue.FAILURE) if trial.state in (TrialState.FAIL, TrialState.PRUNED) else None
    if trial.state == TrialState.FAIL:
        failure = failure or "killed"
    metrics: Mapping[str, float] = known.get(queue.METRICS, {})
    complete = trial.state == TrialState.COMPLETE
    return TrialRow(
        number=int(known[QUEUE_KEY]),
        state="failed" if failure else _STATES[trial.state],
        settings=known.get(SETTINGS, {}),
        values=dict(zip(project.search.objectives, trial.values or (), strict=True)) if complete else {},
        metrics=metrics,
        feasible=not complete or _keeps_bounds(metrics, project),
        failure=failure,
        reason=known.get(queue.REASON),
        run_id=known.get(queue.RUN_ID),
        seconds=known.get(SECONDS),
        attempts=queue.retries(trial) + 1,
        name=known.get(NAME, "as declared" if known[QUEUE_KEY] == OWN_TRIAL else ""),
    )


def best_of(found: Sequence[TrialRow], project: Project) -> list[TrialRow]:
    """Complete trials that keep every bound, best first; ties in the first objective are broken by the next."""
    usable = [row for row in found if row.state == "complete" and row.feasible]
    return sorted(usable, key=lambda row: (losses(row.values, project.search.objectives), row.number))


def _keeps_bounds(metrics: Mapping[str, float], project: Project) -> bool:
    return all(excess <= 0 for excess in constraint_values(metrics, project.search.constraints).values())
