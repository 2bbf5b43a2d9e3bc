"""The base model's results, computed once and found again by every run that needs them.

Each is a run of kind `base` in an experiment of its own: a project's experiment then holds that project's runs only,
and any project of the store finds it.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.evaluation.samples import file_name
from tunery.records import BaseIdentity, Score, TaskResult, TaskSettings
from tunery.tracking.redact import redact
from tunery.tracking.search import FINISHED, is_tagged, search_runs
from tunery.tracking.store import Store, refusals
from tunery.tracking.writer import entity_name, param_text, redact_frame

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

    from tunery.tracking.search import Run

EXPERIMENT = "tunery-base-scores"
KEY = "tunery.base_key"
_RESULT = "result.json"
_TRIED = 10  # runs of one key that are read before the result counts as lost


def find(store: Store, key: str) -> TaskResult | None:
    """The result that was kept under a key; None if there is none, or its files are damaged or gone.

    Args:
        store: All of its experiments are looked through.
        key: evaluation.base_key of the base and the task.

    Raises:
        TrackingError: If the store does not answer.
    """
    kept = search_runs(store, is_tagged(KEY, key), FINISHED, limit=_TRIED)
    return next((result for run in kept if (result := _read(store, run)) is not None), None)


def keep(store: Store, key: str, identity: BaseIdentity, result: TaskResult) -> str:
    """Keep a result under a key. Two processes that keep the same at once leave two equal runs, and either is found.

    Args:
        store: Where to.
        key: evaluation.base_key of the base and the task.
        identity: The base.
        result: Its result.

    Returns:
        The run's id.

    Raises:
        TrackingError: If the store refuses or does not answer.
    """
    from mlflow.entities import RunTag

    client, task = store.client, result.settings.task
    with refusals(store.uri):
        run = client.create_run(
            store.experiment_id(EXPERIMENT),
            tags=redact(_tags(identity, task)),
            run_name=f"{Path(identity.model).name} {task}"[:200],
        )
        run_id, ends = str(run.info.run_id), "FAILED"
        try:
            client.log_batch(run_id, metrics=_metrics(result), params=_params(result))
            _upload(store, run_id, result)
            # Last: who finds the key finds a whole result.
            client.log_batch(run_id, tags=[RunTag(KEY, key)])
            ends = "FINISHED"
        finally:
            client.set_terminated(run_id, ends)
    return run_id


def _read(store: Store, run: Run) -> TaskResult | None:
    import pandas as pd
    import requests
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory(prefix="tunery-base-") as place:
            text = Path(store.client.download_artifacts(run.info.run_id, _RESULT, place)).read_text(encoding="utf-8")
            tree = json.loads(text)
            samples = f"samples/{file_name(tree['settings']['task'])}"
            return _result(tree, pd.read_parquet(store.client.download_artifacts(run.info.run_id, samples, place)))
    except (MlflowException, requests.RequestException, OSError, ValueError, KeyError, TypeError):
        # Gone, cut off, or of another form: whatever is wrong with it, computing it again mends it.
        return None


def _upload(store: Store, run_id: str, result: TaskResult) -> None:
    with tempfile.TemporaryDirectory(prefix="tunery-base-") as place:
        folder = Path(place)
        (folder / "samples").mkdir()
        redact_frame(result.samples).to_parquet(folder / "samples" / file_name(result.settings.task), index=False)
        (folder / _RESULT).write_text(json.dumps(redact(_tree(result)), indent=2) + "\n", encoding="utf-8")
        store.client.log_artifacts(run_id, place)


def _tree(result: TaskResult) -> dict[str, Any]:
    return {
        "settings": asdict(result.settings),
        "scores": {name: asdict(score) for name, score in result.scores.items()},
        **{name: value for name, value in vars(result).items() if name not in ("settings", "scores", "samples")},
    }


def _result(tree: dict[str, Any], samples: Any) -> TaskResult:
    scores = {name: Score(**score) for name, score in tree["scores"].items()}
    rest = {name: value for name, value in tree.items() if name not in ("settings", "scores")}
    return TaskResult(settings=TaskSettings(**tree["settings"]), scores=scores, samples=samples, **rest)


def _metrics(result: TaskResult) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    prefix = f"lm_eval/{result.settings.task}"
    values = {f"{prefix}/{name}": score.value for name, score in result.scores.items()}
    errors = {f"{prefix}/{name}_stderr": score.stderr for name, score in result.scores.items()}
    return [Metric(entity_name(key), value, now, 0) for key, value in {**values, **errors}.items() if value is not None]


def _params(result: TaskResult) -> list[Param]:
    from mlflow.entities import Param

    return [Param(name, param_text(value)) for name, value in asdict(result.settings).items()]


def _tags(identity: BaseIdentity, task: str) -> dict[str, str]:
    return {
        "tunery.kind": "base",
        "tunery.base": identity.model,
        "tunery.base_revision": identity.revision,
        "tunery.quantization": identity.quantization,
        "tunery.task": task,
    }
