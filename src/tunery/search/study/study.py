"""Making a study, or going on with it: what must not have changed, and which trials are still missing."""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.trial import TrialState

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault, StorageError
from tunery.search.sampling.pruners import make_pruner
from tunery.search.sampling.samplers import make_sampler
from tunery.search.space.grid import grid_points
from tunery.search.space.known_good import known_good
from tunery.search.space.parameters import Label
from tunery.search.space.space import OWN_SLOT, Settings, declared_settings, labelled, own_settings
from tunery.search.study import queue
from tunery.search.study.definition import FILES, changes, describe_space
from tunery.search.workers.worker import name_of_process
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tunery.tracking.store import Store

Direction = Literal["minimize", "maximize"]

DEFINITION, STUDY_RUN, _ID, _MADE_BY = "definition", "run_id", "id", "made_by"
_MYSELF = name_of_process(os.getpid(), secrets.token_hex(4))
_SECONDS_TO_BE_MADE = 120.0
_MOST_CHANGES = 12


def join(
    storage: BaseStorage, name: str, project: Project, extra: Sequence[Settings], *, alone: bool = False
) -> optuna.Study:
    """Make the study, or join the one that is there.

    Args:
        storage: Where it is.
        name: Of the study.
        project: What is searched.
        extra: The known-good configurations.
        alone: Whether nobody else uses the study now, who could be making it.

    Raises:
        ConfigError: If the study that is there was made with other settings; all that changed is named.
        StorageError: If it was not made by tunery.
    """
    directions = list(project.search.objectives.values())
    definition = redact(describe_space(project, extra))
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        _define(study, definition)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        if alone and DEFINITION not in study.user_attrs and not study.get_trials(deepcopy=False):
            _define(study, definition)  # whoever made it died in the same moment
        _refuse_changes(study, definition, wait=not alone)
    _name_objectives(study, list(project.search.objectives))
    return study


def _name_objectives(study: optuna.Study, names: Sequence[str]) -> None:
    """What optuna-dashboard writes on its axes; studies of earlier versions have no names yet."""
    if study.metric_names != names:
        with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
            study.set_metric_names(list(names))


def _define(study: optuna.Study, definition: Mapping[str, Any]) -> None:
    study.set_user_attr(_MADE_BY, _MYSELF)
    study.set_user_attr(_ID, secrets.token_hex(16))
    study.set_user_attr(DEFINITION, definition)


def drop_untried(storage: BaseStorage, name: str, project: Project, extra: Sequence[Settings], store: Store) -> None:
    """Delete a study that was made with other settings, if no trial of it was ever trained: those could not be run.

    For a study that nobody else can use. What it left in MLflow stays, as FAILED or KILLED.

    Args:
        storage: Where it is.
        name: Of the study.
        project: What is searched, as it is now.
        extra: The known-good configurations.
        store: MLflow's.
    """
    from tunery.tracking.study_runs import end_study

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    was, now = study.user_attrs.get(DEFINITION), redact(describe_space(project, extra))
    if was is None or not changes(was, now) or _was_trained(study) or _is_mended_in_place(study, was, now):
        return
    run = run_of_study(study, store, wait=False)
    if run is not None:
        end_study(store, run)
    optuna.delete_study(study_name=name, storage=storage)


def armed(study: optuna.Study, project: Project, extra: Sequence[Settings]) -> optuna.Study:
    """The study with the project's sampler and pruner, which a storage does not hold.

    Args:
        study: From `join`.
        project: What is searched.
        extra: The known-good configurations, which no grid point repeats.
    """
    study.sampler = make_sampler(project.search, _grid(project, extra), fixed=1 + len(extra))
    study.pruner = make_pruner(project.search, project.training.checkpoints)
    return study


def lay_out_trials(
    study: optuna.Study, project: Project, extra: Sequence[Settings], trials: int, *, withdraw: bool = True
) -> int:
    """Lay out the project's own settings, the known-good ones, and as many drawn ones as are missing of the total.

    Args:
        study: From `join`.
        project: What is searched.
        extra: The known-good configurations.
        trials: In all.
        withdraw: Whether waiting trials beyond the total are taken back.

    Returns:
        Trials in all: fewer than asked for where a grid has no more points.
    """
    if project.search.sampler == "grid":
        trials = min(trials, 1 + len(extra) + len(_grid(project, extra)))
    first = [labelled(project, settings) for settings in (own_settings(project), *extra)]
    queue.lay_out(
        study,
        [queue.TrialJob(number, first[number] if number < len(first) else {}) for number in range(OWN_SLOT, trials)],
        withdraw=withdraw,
    )
    return trials


def _grid(project: Project, extra: Sequence[Settings]) -> Sequence[Mapping[str, Label]]:
    """Points of the sampler grid that are not tried anyway."""
    return grid_points(project, [declared_settings(project), *extra]) if project.search.sampler == "grid" else ()


def lay_out_finals(
    storage: BaseStorage, name: str, jobs: Sequence[queue.TrialJob], direction: Direction, objective: str | None = None
) -> optuna.Study:
    """The study that holds the finals, with what is missing of them; its values are named after the objective."""
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction=direction,
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
    )
    queue.lay_out(study, jobs)
    if objective is not None:
        _name_objectives(study, [objective])
    return study


def known_configurations(project: Project, store: Store) -> list[Settings]:
    """The configurations of search.known_good; those of runs are read from MLflow.

    Raises:
        ConfigError: If one cannot be used.
    """
    from tunery.tracking.registry import run_config

    def tree_of_run(run_id: str) -> Mapping[str, Any]:
        tree = run_config(store, run_id)
        if tree is None:
            fault = Fault("search.known_good", "runs:/ and the id of a run that tunery made", f"runs:/{run_id}")
            raise ConfigError(project.name, fault)
        return tree

    return known_good(project, tree_of_run)


def take_from_the_dead(study: optuna.Study, *, died: bool) -> int:
    """Requeue every trial that runs: for a study in a file, when nobody works on it.

    Args:
        study: The study.
        died: Whether that counts as a retry.

    Returns:
        How many.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        queue.requeue(study, trial, died=died)
    return len(running)


def _refuse_changes(study: optuna.Study, definition: Mapping[str, Any], *, wait: bool) -> None:
    was = _definition(study, wait=wait)
    sentences = changes(was, definition)
    if sentences and _is_mended_in_place(study, was, definition):
        study.set_user_attr(DEFINITION, definition)
    elif sentences:
        more = len(sentences) - _MOST_CHANGES
        advice = "Undo that to go on, or make another study: --study NAME."
        faults = [Fault(sentence) for sentence in sentences[:_MOST_CHANGES]]
        raise ConfigError(f"study {study.study_name}", faults, f"And {more} more. {advice}" if more > 0 else advice)


def _is_mended_in_place(study: optuna.Study, was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether only files were edited, with which no trial could be run: the trials that wait are what they were."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    learned = bool(study.get_trials(deepcopy=False, states=states))
    return not learned and not changes({**was, FILES: now[FILES]}, now)


def _was_trained(study: optuna.Study) -> bool:
    """Whether any trial made a step, or ended by what its settings are worth."""
    return any(
        queue.TRAINED in trial.user_attrs
        or queue.METRICS in trial.user_attrs
        or (
            trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            and trial.user_attrs.get(queue.FAILURE) != "infeasible"
        )
        for trial in study.get_trials(deepcopy=False)
    )


def _definition(study: optuna.Study, *, wait: bool) -> Mapping[str, Any]:
    """Whoever makes a study writes its definition right after; a second host may be here in between."""
    until = time.monotonic() + (_SECONDS_TO_BE_MADE if wait else 0.0)
    while DEFINITION not in study.user_attrs:
        if time.monotonic() > until:
            fault = "was left half-made, or was not made by tunery. Choose another name: --study NAME."
            raise StorageError(f"study {study.study_name}", fault)
        time.sleep(0.5)
    found: Mapping[str, Any] = study.user_attrs[DEFINITION]
    return found


def run_of_study(study: optuna.Study, store: Store, *, wait: bool) -> str | None:
    """The study's run in MLflow; None for a study that has none yet.

    Args:
        study: The study.
        store: MLflow's, where the run is looked for if whoever made it died before the study was told.
        wait: Whether another host may be making it now.
    """
    from tunery.tracking.study_runs import run_tagged

    until = time.monotonic() + _SECONDS_TO_BE_MADE
    while wait and STUDY_RUN not in study.user_attrs and study.user_attrs.get(_MADE_BY) != _MYSELF:
        if time.monotonic() > until:
            break  # whoever was to make it has died
        time.sleep(0.5)
    found = study.user_attrs.get(STUDY_RUN)
    if found is None:
        found = next((run_tagged(store, tag, value) for tag, value in tags_of(study).items()), None)
    return None if found is None else str(found)


def tags_of(study: optuna.Study) -> dict[str, str]:
    """The tag by which the study's run in MLflow is found; none for a study that an earlier version made.

    Two storages may hold studies of one name: the tag holds an id.
    """
    known = study.user_attrs.get(_ID)
    return {} if known is None else {"tunery.study_id": str(known)}
