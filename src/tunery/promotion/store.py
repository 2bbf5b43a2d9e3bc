"""Promotions in MLflow: their runs, the model that a reference means, and what the candidate's own run recorded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, RefError
from tunery.evaluation.samples import read_folder
from tunery.records.scores import TaskResult
from tunery.tracking.aliases import APPLIED
from tunery.tracking.places import moved
from tunery.tracking.redact import redact
from tunery.tracking.registry import ModelRef, gone, resolve
from tunery.tracking.run import KIND, Tracker
from tunery.tracking.search import equals, is_tagged, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    import pandas as pd

    from tunery.tracking.search import Run

MODEL, VERSION, DECISION = "tunery.promotion.model", "tunery.promotion.version", "tunery.promotion.decision"
# A registered model's name may be changed; when it was made stays, so that it keeps its promotions.
MADE_AT = "tunery.promotion.model_made_at"
CHAMPION, REASON, BY = "tunery.promotion.rival", "tunery.promotion.reason", "tunery.promotion.by"
EVIDENCE = "evidence.json"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_REGISTERED = "tunery.registered_version"
_REFERENCES = "models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id or its name"


@dataclass(frozen=True)
class Promotion:
    """One run of kind promotion that has ended."""

    run_id: str
    decision: str  # accepted, forced, rolled back or refused
    version: int | None  # of the model; None if a run was refused that was never registered
    champion: int | None  # the champion's version at the time
    by: str
    reason: str
    applied: str | None  # when the aliases moved, ISO 8601; None if they did not
    metrics: Mapping[str, float]  # scores, as the run holds them
    started_ms: int  # when the run began

    @property
    def moment(self) -> str:
        """When the aliases moved, or when the run began if they did not. ISO 8601."""
        return self.applied or datetime.fromtimestamp(self.started_ms / 1000, UTC).isoformat(timespec="seconds")


def promotions(store: Store, name: str) -> list[Promotion]:
    """Every decided promotion of a registered model, whatever it was called then, oldest first, from all experiments.

    Raises:
        TrackingError: If the store does not answer.
    """
    made_at, decided = _made_at(store, name), f"tags.`{DECISION}` != ''"
    named = search_runs(store, is_tagged(MODEL, name), decided)
    renamed = search_runs(store, is_tagged(MADE_AT, made_at), decided) if made_at else ()
    # Not those of another model that had the name before.
    found = {run.info.run_id: run for run in (*named, *renamed) if run.data.tags.get(MADE_AT, made_at) == made_at}
    return sorted(map(_promotion, found.values()), key=lambda one: (one.moment, one.started_ms))


def _made_at(store: Store, name: str) -> str | None:
    """When a registered model was made, in milliseconds; None if it is not there."""
    model = store.found(store.client.get_registered_model, name)
    return None if model is None else str(model.creation_timestamp)


def log_decision(
    tracker: Tracker, tags: Mapping[str, object], metrics: Mapping[str, float], evidence: Mapping[str, Any], page: str
) -> None:
    """Log a decision to the promotion's run: tags, metrics, evidence.json and the page, all before an alias moves."""
    made_at = _made_at(tracker.store, str(tags[MODEL]))
    tracker.tag(**tags, **({} if made_at is None else {MADE_AT: made_at}))
    tracker.log_metrics(metrics)
    tracker.log_dict(evidence, EVIDENCE)
    tracker.set_description(page)
    tracker.flush()


def log_answers(tracker: Tracker, answers: Mapping[str, Mapping[str, TaskResult]]) -> None:
    """Keep the answers that were compared: samples/<model>/<task>.parquet."""
    for model, results in answers.items():
        tracker.log_samples(results, f"samples/{model}")


def find_model(ref: str, store: Store) -> ModelRef:
    """The logged model that a reference leads to, with its version if it has one.

    Args:
        ref: models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id or its name; a study leads to
            its winner's version.

    Raises:
        RefError: If it leads nowhere.
    """
    if ref.startswith("models:/"):
        return _with_version(resolve(ref, store), store)
    run_id = ref.removeprefix("runs:/").strip("/").split("/")[0]
    run = _run(ref, run_id, store) if _RUN_ID.fullmatch(run_id) or ref.startswith("runs:/") else _study(ref, store)
    if run.data.tags.get(KIND) == "study":
        return _winner(ref, run, store)
    return _with_version(resolve(f"runs:/{run.info.run_id}", store), store)


def origin_of(model: ModelRef, store: Store) -> Run:
    """The run that made a model; it must have finished, and its scores must be numbers.

    Raises:
        RefError: If it is gone, did not finish, or has scores that are NaN.
    """
    if model.run_id is None:
        raise RefError(model.ref, "no run made this model, so its scores are unknown. Name a run of kind train.")
    run = _run(model.ref, model.run_id, store)
    if run.info.lifecycle_stage == "deleted":
        advice = f"Restore it first: mlflow runs restore --run-id {model.run_id}"
        raise RefError(model.ref, f"its run {model.run_id} was deleted. {advice}")
    if run.info.status != "FINISHED":
        raise RefError(model.ref, Fault(f"the status of its run {model.run_id}", "FINISHED", str(run.info.status)))
    scores = re.compile(r"(locked/)?score|lm_eval/.*(?<!_stderr)")
    bad = sorted(key for key, value in run.data.metrics.items() if scores.fullmatch(key) and math.isnan(value))
    if bad:
        raise RefError(model.ref, [Fault(f"{key} of its run {model.run_id}", "a number", float("nan")) for key in bad])
    return run


def recorded_answers(run_id: str, store: Store) -> dict[str, pd.DataFrame]:
    """The answers that a run keeps, by task: its own samples, and those of locked items that the end of a study added.

    Raises:
        RefError: If it keeps none, or they cannot be read.
    """
    import pandas as pd
    from mlflow.exceptions import MlflowException

    advice = "Train it again, or score it: tunery evaluate."
    with TemporaryDirectory(prefix="tunery-samples-") as place:
        try:
            folder = Path(store.client.download_artifacts(run_id, "samples", place))
        except (MlflowException, OSError) as error:
            away = moved(store, str(store.client.get_run(run_id).info.artifact_uri))
            told = f"keeps no answers (samples/<task>.parquet) to be judged by. {advice}"
            raise RefError(f"run {run_id}", f"its answers cannot be reached: {away}" if away else told) from error
        try:
            plain, locked = read_folder(folder), read_folder(folder / "locked")
        except (OSError, ValueError) as error:
            raise RefError(f"run {run_id}", Fault("its samples cannot be read", str(error), advice=advice)) from error
    if not plain and not locked:
        raise RefError(f"run {run_id}", f"keeps no answers (samples/<task>.parquet) to be judged by. {advice}")
    return {
        task: pd.concat([part[task] for part in (plain, locked) if task in part])
        for task in dict.fromkeys([*plain, *locked])
    }


def check_files(ref: str, store: Store) -> None:
    """Raise RefError if a reference leads to no logged model, or to one whose files are gone."""
    from mlflow.exceptions import MlflowException

    model, advice = resolve(ref, store), "Promote another version: tunery promote."
    try:
        files = store.client.list_logged_model_artifacts(model.model_id)
    except (MlflowException, OSError) as error:
        raise gone(model, store, redact(str(error)).strip(), advice) from error
    if not any(Path(file.path).name == "MLmodel" for file in files):
        raise gone(model, store, advice=advice)


def _run(ref: str, run_id: str, store: Store) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        fault = Fault(f"there is no run {run_id!r}", f"what can be promoted: {_REFERENCES}", advice=store.where)
        raise RefError(ref, fault) from error


def _study(name: str, store: Store) -> Run:
    found = list(search_runs(store, is_tagged(KIND, "study")))
    named = [run for run in found if name in (run.info.run_name, run.data.tags.get("tunery.study"))]
    if not named:
        known = ", ".join(dict.fromkeys(run.data.tags.get("tunery.study", "") for run in found)) or "none"
        missing = f"no study of this name (there are: {known})"
        raise RefError(name, Fault(missing, f"what can be promoted: {_REFERENCES}", advice=store.where))
    return named[0]


def _winner(ref: str, study: Run, store: Store) -> ModelRef:
    version = study.data.tags.get(_REGISTERED)
    if version is None:
        status = study.info.status
        raise RefError(ref, f"this study registered no winner (status {status}). Finish it, or name one of its trials.")
    return resolve(f"models:/{version}", store)


def _with_version(model: ModelRef, store: Store) -> ModelRef:
    """A model given by its run, with the newest version that was made of it, if there is one."""
    if model.version is not None or model.run_id is None:
        return model
    with refusals(store.uri):
        versions = store.client.search_model_versions(equals("run_id", model.run_id))
    ours = [version for version in versions if str(version.source).endswith(model.model_id)]
    newest = max(ours, key=lambda version: int(version.creation_timestamp), default=None)
    return model if newest is None else replace(model, name=str(newest.name), version=int(newest.version))


def _promotion(run: Run) -> Promotion:
    tags = run.data.tags
    return Promotion(
        run_id=str(run.info.run_id),
        decision=tags[DECISION],
        version=_number(tags.get(VERSION)),
        champion=_number(tags.get(CHAMPION)),
        by=tags.get(BY, ""),
        reason=tags.get(REASON, ""),
        applied=tags.get(APPLIED),
        metrics=dict(run.data.metrics),
        started_ms=int(run.info.start_time),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
