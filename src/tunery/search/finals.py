"""The finals: the best configurations, and the project's own, are trained again with other seeds.

The score by which a search found a configuration is the luckiest of many. Other seeds, on the same dev items, show
what it is worth before the locked items are scored.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.records.studies import Finalist, TrialRow
from tunery.search.objectives import constraint_values
from tunery.search.report.facts import losses, mean, means
from tunery.search.space.space import OWN_TRIAL, REPEATS, SEED, is_own
from tunery.search.study import queue
from tunery.search.study.progress import best_settings, row_of, rows
from tunery.search.trials import run, trial_project, with_seed
from tunery.search.worker import Worker

_TRIAL = "trial"


def finalist_trials(study: optuna.Study, project: Project) -> list[TrialRow]:
    """The best trials of different settings, then the project's own settings if they are not among them.

    There are none if only the project's own settings are complete.
    """
    found = rows(study, project)
    best = best_settings(found, project)[: project.search.finalists]
    own = [row for row in found if row.number == OWN_TRIAL and row.state == "complete" and row not in best]
    return [*best, *own] if best else []


def final_jobs(study: optuna.Study, project: Project) -> list[queue.TrialJob]:
    """One trial for each finalist and seed; none where every configuration was repeated in the search."""
    if project.search.repeats:
        return []
    return [
        queue.TrialJob(
            f"{row.number}:{seed}",
            attributes={_TRIAL: row.number, SEED: seed, "settings": dict(row.settings), "name": row.name},
        )
        for row in finalist_trials(study, project)
        for seed in other_seeds(project)
    ]


def other_seeds(project: Project) -> list[int]:
    """Seeds that no trial of the search was trained with."""
    return [project.training.seed + place for place in range(1, project.search.seeds + 1)]


def seeded(project: Project, number: int, settings: Mapping[str, Any], seed: int) -> Project:
    """The project with a finalist's settings and a seed."""
    configured = project if number == OWN_TRIAL else trial_project(project, settings)
    by_score = configured.training.chooses_by_score
    # Nothing is pruned here, and these curves are not shown.
    return with_seed(configured, seed, **({} if by_score else {"score_checkpoints": False}))


def run_final(worker: Worker, trial: optuna.Trial) -> float:
    """Train a finalist with one seed; its value of the first objective."""
    known = trial.user_attrs
    project = seeded(worker.project, known[_TRIAL], known["settings"], known[SEED])
    name = f"final {known[_TRIAL]}, seed {known[SEED]}: {known['name']}"
    tags = {"tunery.finalist": str(known[_TRIAL]), "tunery.seed": str(known[SEED])}
    metrics = run(worker, trial, project, name, prune=False, tags=tags)
    return float(metrics[next(iter(project.search.objectives))])


def finalists(study: optuna.Study, finals: optuna.Study | None, project: Project) -> list[Finalist]:
    """The results of the finals, without finalists whose every seed failed; of repeats, the best configurations."""
    if project.search.repeats:
        return _best(configurations(study, project), project)
    if finals is None:
        return []
    current = queue.current_trials(finals)
    found = []
    for row in finalist_trials(study, project):
        ended = [current.get(f"{row.number}:{seed}") for seed in other_seeds(project)]
        whole = [trial for trial in ended if trial is not None and trial.state == TrialState.COMPLETE]
        if whole:
            found.append(_finalist(row, whole, project))
    return found


def configurations(study: optuna.Study, project: Project) -> list[Finalist]:
    """Every configuration of a study with repeats that has a complete one, the project's own first."""
    repeats: dict[int, list[FrozenTrial]] = defaultdict(list)
    current = queue.current_trials(study)
    for key in sorted(current, key=int):
        if current[key].state == TrialState.COMPLETE:
            repeats[current[key].user_attrs[REPEATS]].append(current[key])
    return [_finalist(row_of(whole[0], project), whole, project) for _, whole in sorted(repeats.items())]


def _best(found: Sequence[Finalist], project: Project) -> list[Finalist]:
    """The configurations that are scored on locked items: the best by their means, and the project's own."""
    objectives = project.search.objectives
    able = [one for one in found if one.refused is None]
    best = sorted(able, key=lambda one: losses(means(one, objectives), objectives))[: project.search.finalists]
    return [*best, *(one for one in able if one.own and one not in best)] if best else []


def _refused(whole: Sequence[FrozenTrial], project: Project) -> str | None:
    """Why a configuration cannot win even with the best score; None if it can."""
    seeds = project.search.repeats or project.search.seeds
    lost = seeds - len(whole)
    if lost:
        return f"{lost} of {seeds} seeds failed"
    constraints = project.search.constraints
    measured = [trial.user_attrs[queue.METRICS] for trial in whole]
    means = {name: mean([float(metrics[name]) for metrics in measured if name in metrics]) for name in constraints}
    broken = [name for name, excess in constraint_values(means, constraints).items() if excess > 0]
    said = ", ".join(f"{name} is {means[name]:.4g}, but must be {constraints[name]}" for name in broken)
    return f"over its seeds {said}" if broken else None


def _finalist(row: TrialRow, whole: Sequence[FrozenTrial], project: Project) -> Finalist:
    def measured(name: str) -> tuple[float, ...]:
        return tuple(float(trial.user_attrs[queue.METRICS].get(name, math.nan)) for trial in whole)

    return Finalist(
        trial=row.number,
        name=row.name,
        settings=row.settings,
        seeds=tuple(int(trial.user_attrs[SEED]) for trial in whole),
        # Whatever the objective: a study that minimises loss still reports the tasks' scores.
        dev=measured("score") if "score" in row.metrics else (),
        locked=(),
        run_ids=tuple(str(trial.user_attrs[queue.RUN_ID]) for trial in whole),
        own=is_own(whole[0]) if project.search.repeats else row.number == OWN_TRIAL,
        values=tuple(float(trial.values[0]) for trial in whole),
        further={name: measured(name) for name in list(project.search.objectives)[1:]},
        refused=_refused(whole, project),
    )


def winner_among(found: Sequence[Finalist], project: Project) -> Finalist | None:
    """The finalist with the best mean of the first objective over its seeds; ties are broken by the next objective.

    If all are equal, the project's own settings win. A finalist that breaks a bound cannot win, nor one with a failed
    seed: the mean of the seeds that survived is too good.
    """
    objectives = project.search.objectives
    able = [one for one in found if one.refused is None]
    return min(able, key=lambda one: (losses(means(one, objectives), objectives), not one.own), default=None)
