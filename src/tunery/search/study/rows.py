"""Optuna's trials -> rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.records import TrialRow
from tunery.search.objectives import constraint_values
from tunery.search.report.facts import losses
from tunery.search.space.space import OWN_SLOT
from tunery.search.study import queue

SETTINGS, NAME, SECONDS = "settings", "name", "seconds"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def rows(study: optuna.Study, project: Project) -> list[TrialRow]:
    """The trial that counts for each slot, in the order of the slots."""
    standing = queue.standing(study)
    return [row_of(standing[slot], project) for slot in sorted(standing, key=int)]


def row_of(trial: FrozenTrial, project: Project) -> TrialRow:
    """One trial. Optuna calls it pruned when its settings made it fail; here it has failed."""
    known = trial.user_attrs
    failure = known.get(queue.FAILURE) if trial.state in (TrialState.FAIL, TrialState.PRUNED) else None
    if trial.state == TrialState.FAIL:
        failure = failure or "killed"
    metrics: Mapping[str, float] = known.get(queue.METRICS, {})
    complete = trial.state == TrialState.COMPLETE
    return TrialRow(
        number=int(known[queue.SLOT]),
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
        name=known.get(NAME, "as declared" if known[queue.SLOT] == OWN_SLOT else ""),
    )


def best_of(found: Sequence[TrialRow], project: Project) -> list[TrialRow]:
    """Complete trials that keep every bound, from the best value of the first objective on, equal ones by the next."""
    usable = [row for row in found if row.state == "complete" and row.feasible]
    return sorted(usable, key=lambda row: (losses(row.values, project.search.objectives), row.number))


def _keeps_bounds(metrics: Mapping[str, float], project: Project) -> bool:
    return all(excess <= 0 for excess in constraint_values(metrics, project.search.constraints).values())
