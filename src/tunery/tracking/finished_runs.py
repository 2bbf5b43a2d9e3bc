"""Runs that are over when they are written: many of them in one visit to MLflow's database."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

Rows = dict[str, list[dict[str, Any]]]  # by kind of row


@dataclass(frozen=True)
class FinishedRun:
    """A run without artifacts."""

    name: str
    start_ms: int
    tags: Mapping[str, str]
    params: Sequence[Param]
    metrics: Sequence[Metric]


def takes_many(store: Store) -> bool:
    """Whether the store is a database that `write_finished` writes to; an MLflow server takes runs one by one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return type(store.client._tracking_client.store) is SqlAlchemyStore


def write_finished(store: Store, runs: Sequence[FinishedRun]) -> list[str]:
    """Write all runs to the store's experiment, or none; their ids.

    MLflow's client visits the database twelve times for a run of some params and metrics, and loads what it wrote
    each time: 50 ms of processor a run. The rows are those that it leaves behind.

    Raises:
        TrackingError: If the database refuses, or a value is none that MLflow takes.
    """
    from mlflow.store.tracking.dbmodels import models

    with refusals(store.uri):
        database, ids = store.client._tracking_client.store, [uuid.uuid4().hex for _ in runs]
        experiment = database.get_experiment(store.experiment_id())
        rows: Rows = defaultdict(list)
        for run_id, run in zip(ids, runs, strict=True):
            _add(rows, run_id, run, experiment, database)
        with database.ManagedSessionMaker(read_only=False) as session:
            for kind in (models.SqlRun, models.SqlTag, models.SqlParam, models.SqlMetric, models.SqlLatestMetric):
                if rows[kind.__name__]:
                    session.execute(kind.__table__.insert(), rows[kind.__name__])
    return ids


def _add(rows: Rows, run_id: str, run: FinishedRun, experiment: Any, database: SqlAlchemyStore) -> None:
    from mlflow.entities import RunTag
    from mlflow.utils.uri import append_to_uri_path
    from mlflow.utils.validation import _validate_batch_log_data

    named = {**run.tags, "mlflow.runName": run.name}
    metrics, params, tags = _validate_batch_log_data(
        list(run.metrics), run.params, [RunTag(key, value) for key, value in named.items()]
    )
    rows["SqlRun"].append({
        "run_uuid": run_id, "name": run.name, "experiment_id": int(experiment.experiment_id), "user_id": "unknown",
        "status": "FINISHED", "lifecycle_stage": "active", "deleted_time": None,
        "start_time": run.start_ms, "end_time": int(time.time() * 1000),
        "source_type": "UNKNOWN", "source_name": "", "source_version": "", "entry_point_name": "",
        "artifact_uri": append_to_uri_path(experiment.artifact_location, run_id, database.ARTIFACTS_FOLDER_NAME),
    })  # fmt: skip
    rows["SqlTag"] += [{"run_uuid": run_id, "key": tag.key, "value": tag.value} for tag in tags]
    rows["SqlParam"] += [{"run_uuid": run_id, "key": param.key, "value": param.value} for param in params]
    points = [_point(run_id, metric, database) for metric in dict.fromkeys(metrics)]
    rows["SqlMetric"] += points
    latest: dict[str, dict[str, Any]] = {}
    for point in sorted(points, key=lambda it: (it["step"], it["timestamp"], it["value"])):
        latest[point["key"]] = point
    rows["SqlLatestMetric"] += latest.values()


def _point(run_id: str, metric: Metric, database: SqlAlchemyStore) -> dict[str, Any]:
    is_nan, value = database.sanitize_metric_value(metric.value)
    known = {"key": metric.key, "value": value, "timestamp": metric.timestamp, "step": metric.step}
    return {"run_uuid": run_id, **known, "is_nan": is_nan}
