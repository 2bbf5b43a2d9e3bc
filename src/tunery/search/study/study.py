"""A study in Optuna's storage: created, or resumed if its settings have not changed, and its trials queued."""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.trial import TrialState

from tunery.config.project import Project
from tunery.errors import ConfigError, Fault, StorageError
from tunery.search.sampling.fixed_points import LARGEST_GRID, fixed_points
from tunery.search.sampling.pruners import make_pruner, most_rungs
from tunery.search.sampling.samplers import make_sampler
from tunery.search.space.space import REPEATS, SEED, Settings, labelled, own_settings
from tunery.search.study import queue
from tunery.search.study.definition import FILES, changes, describe_space
from tunery.search.study.mlflow_runs import MADE_BY, SECONDS_TO_BE_MADE, STUDY_ID, THIS_PROCESS, run_of_study
from tunery.search.study.storage import is_one_host, load_if_there, open_storage, storage_errors
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tunery.tracking.store import Store

DEFINITION, START_ALIAS = "definition", "start_alias"
_MOST_CHANGES = 12


def create_or_load(
    storage: BaseStorage,
    project: Project,
    name: str,
    known: Sequence[Settings],
    *,
    alone: bool = False,
    start_alias: str | None = None,
) -> optuna.Study:
    """Create a study, or load the existing one, with the project's sampler and pruner.

    Args:
        storage: Where it is kept.
        project: What is searched.
        name: The study's.
        known: The known-good settings.
        alone: No other process uses the study now, which could be creating it.
        start_alias: The alias whose version is now the project's adapter.start.

    Raises:
        ConfigError: If the existing study was created with other settings; the message names all that changed.
        StorageError: If it was not created by tunery.
    """
    definition = redact(describe_space(project, known))
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=list(project.search.objectives.values())
        )
        _define(study, definition)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        if alone and DEFINITION not in study.user_attrs and not study.get_trials(deepcopy=False):
            _define(study, definition)  # the process that created it died before it could
        _refuse_changes(study, definition, wait=not alone)
    if start_alias is not None and START_ALIAS not in study.user_attrs:
        study.set_user_attr(START_ALIAS, start_alias)
    _name_objectives(study, list(project.search.objectives))
    study.sampler = make_sampler(project.search)
    study.pruner = make_pruner(project.search, most_rungs(project))
    return study


def begun_with(url: str, name: str) -> dict[str, str]:
    """What the alias that a study began with meant then, for `pinned`; empty where there is no such study."""
    if is_one_host(url) and not Path(url.removeprefix("sqlite:///")).is_file():
        return {}
    with storage_errors(url):
        study = load_if_there(open_storage(url), name)
        attributes = {} if study is None else study.user_attrs
    alias, settings = attributes.get(START_ALIAS), attributes.get(DEFINITION, {}).get("settings", {})
    return {alias: settings["adapter.start"]} if alias and settings.get("adapter.start") else {}


def _define(study: optuna.Study, definition: Mapping[str, Any]) -> None:
    study.set_user_attr(MADE_BY, THIS_PROCESS)
    study.set_user_attr(STUDY_ID, secrets.token_hex(16))
    study.set_user_attr(DEFINITION, definition)


def _name_objectives(study: optuna.Study, names: Sequence[str]) -> None:
    """What optuna-dashboard writes on its axes."""
    if study.metric_names != names:
        with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
            study.set_metric_names(list(names))


def _refuse_changes(study: optuna.Study, definition: Mapping[str, Any], *, wait: bool) -> None:
    was = _definition(study, wait=wait)
    faults = [Fault(sentence) for sentence in changes(was, definition)]
    if faults and _may_change_in_place(study, was, definition):
        study.set_user_attr(DEFINITION, definition)
    elif faults:
        more = len(faults) - _MOST_CHANGES
        advice = "Undo that to resume it, or start another study: --study NAME."
        told = f"And {more} more. {advice}" if more > 0 else advice
        raise ConfigError(f"study {study.study_name}", faults[:_MOST_CHANGES], told)


def _definition(study: optuna.Study, *, wait: bool) -> Mapping[str, Any]:
    """The process that creates a study writes its definition right after; a second host may look in between."""
    until = time.monotonic() + (SECONDS_TO_BE_MADE if wait else 0.0)
    while DEFINITION not in study.user_attrs:
        if time.monotonic() > until:
            fault = "is incomplete, or was not created by tunery. Choose another name: --study NAME."
            raise StorageError(f"study {study.study_name}", fault)
        time.sleep(0.5)
    found: Mapping[str, Any] = study.user_attrs[DEFINITION]
    return found


def _may_change_in_place(study: optuna.Study, was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether only files were edited, with which no trial could be run: waiting trials are still what they were."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    learned = bool(study.get_trials(deepcopy=False, states=states))
    return not learned and not changes({**was, FILES: now[FILES]}, now)


def delete_untrained(
    storage: BaseStorage, project: Project, name: str, known: Sequence[Settings], store: Store
) -> None:
    """Delete a study that was created with other settings if it has trained no trial: its settings could not be run.

    For a study that no other process can use. Its runs in MLflow stay, as FAILED or KILLED.
    """
    from tunery.tracking.study_runs import end_study

    study = load_if_there(storage, name)
    if study is None:
        return
    was, now = study.user_attrs.get(DEFINITION), redact(describe_space(project, known))
    if was is None or not changes(was, now) or _was_trained(study) or _may_change_in_place(study, was, now):
        return
    run = run_of_study(study, store, wait=False)
    if run is not None:
        end_study(store, run)
    optuna.delete_study(study_name=name, storage=storage)


def _was_trained(study: optuna.Study) -> bool:
    """Whether any trial made a step, or its result is due to its settings."""
    for trial in study.get_trials(deepcopy=False):
        known = trial.user_attrs
        judged = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and known.get(queue.FAILURE) != "infeasible"
        if judged or queue.TRAINED in known or queue.METRICS in known:
            return True
    return False


def enqueue_search_trials(
    study: optuna.Study,
    project: Project,
    known: Sequence[Settings],
    trials: int | Literal["all"],
    *,
    withdraw: bool = True,
) -> None:
    """Queue what is missing of the total: the project's own settings, the known-good ones, then points or draws.

    Fewer are queued if a grid has no more points; waiting trials beyond the total may be withdrawn.
    """
    given: list[dict[str, Any]] = [labelled(project, settings) for settings in (own_settings(project), *known)]
    most = LARGEST_GRID if trials == "all" else trials
    given += fixed_points(project, known, most - len(given))
    total = min(most, len(given)) if project.search.sampler == "grid" else most
    points = [given[number] if number < len(given) else {} for number in range(total)]
    queue.enqueue_trials(study, list(_jobs(project, points)), withdraw=withdraw)


def _jobs(project: Project, points: Sequence[Mapping[str, Any]]) -> Iterator[queue.TrialJob]:
    """A trial a point, or one a point and repeat: all points once, then all of them again with the next seed."""
    for repeat in range(project.search.repeats or 1):
        for number, point in enumerate(points):
            again = {REPEATS: number, SEED: project.training.seed + repeat} if project.search.repeats else {}
            yield queue.TrialJob(repeat * len(points) + number, point, again)


def create_job_study(
    storage: BaseStorage,
    name: str,
    jobs: Sequence[queue.TrialJob],
    direction: Literal["minimize", "maximize"],
    objective: str | None = None,  # what its values are called
) -> optuna.Study:
    """Create or load a study whose trials are all given, such as finals, and queue those that are missing."""
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction=direction,
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
    )
    queue.enqueue_trials(study, jobs)
    if objective is not None:
        _name_objectives(study, [objective])
    return study
