"""The base model's results, computed once and found again by every run that needs them.

Each is a run of kind `base` in an experiment of its own: a project's experiment then holds that project's runs only,
and any project of the store finds it. The adapter that a training begins with is kept alike, as a run of kind `parent`.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.evaluation.samples import file_name
from tunery.records.runs import BaseIdentity
from tunery.records.scores import Score, TaskResult, TaskSettings
from tunery.tracking.entities import entity_name, param_text, write_samples
from tunery.tracking.process import this_process
from tunery.tracking.redact import redact
from tunery.tracking.run import PROCESS
from tunery.tracking.runlog import START
from tunery.tracking.scores import TASK_PARAM, task_scores
from tunery.tracking.search import FINISHED, is_tagged, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from tunery.tracking.search import Run

EXPERIMENT = "tunery-base-scores"
KEY = "tunery.base_key"
HELD_AS = "tunery.quantization"
FIT_KEY = "tunery.base_fit_key"  # of a run that trained; its own metrics hold the fit
FIT = ("base/train_nll", "base/train_entropy")
_RESULT = "result.json"
_TRIED = 10  # runs of one key that are read before the result counts as lost


def find(store: Store, key: str) -> TaskResult | None:
    """The result that was kept under a key (runs.scoring.base_key of the base and the task), in any experiment.

    None if there is none, or its files are damaged or gone.
    """
    kept = search_runs(store, is_tagged(KEY, key), FINISHED, limit=_TRIED)
    return next((result for run in kept if (result := _read(store, run)) is not None), None)


def find_in_run(store: Store, run_id: str, settings: TaskSettings, items: str, metric: str) -> TaskResult | None:
    """A task's result as the run that trained a model recorded it: one metric, on all items.

    Args:
        settings: How the task is asked now.
        items: Digest of its items now (evaluation.samples.items_digest).
        metric: The one that is looked for.

    Returns:
        None if the run did not finish, was scored under other conditions, or its files are damaged or gone.
    """
    import pandas as pd

    run = store.found(store.client.get_run, run_id)
    told = run.data.params.get(entity_name(f"{TASK_PARAM}{settings.task}")) if run is not None else None
    if run is None or told is None or run.info.status != "FINISHED":
        return None
    try:
        known = json.loads(told)
        then = {
            "items": known["items"],
            "metric": known["metric"],
            **{name: known[name] for name in asdict(settings) if name != "task"},
        }
        now = {"items": items, "metric": metric, **asdict(settings)}
        name = entity_name(f"lm_eval/{settings.task}/{metric}")
        if {**then, "task": settings.task} != now or name not in run.data.metrics:
            return None
        with tempfile.TemporaryDirectory(prefix="tunery-parent-") as place:
            samples = f"samples/{file_name(settings.task)}"
            frame = pd.read_parquet(store.client.download_artifacts(run_id, samples, place))
        value, error = run.data.metrics[name], run.data.metrics.get(f"{name}_stderr")
        score = Score(settings.task, metric, value, error, len(frame), bool(known["higher_is_better"]))
        return TaskResult(settings, {metric: score}, frame, metric)
    except _unreadable():
        return None


def keep(store: Store, key: str, identity: BaseIdentity, result: TaskResult, start: str | None = None) -> str:
    """Keep a result under a key, as `find` takes it; the id of the run that holds it.

    Two processes that keep the same at once leave two equal runs, and either is found.

    Args:
        identity: The base that was scored.
        start: The adapter that was on it, as adapter.start names it.
    """
    from mlflow.entities import Metric, Param, RunTag

    client, task, now = store.client, result.settings.task, int(time.time() * 1000)
    tags = {
        "tunery.kind": "parent" if start else "base",
        **({START: start} if start else {}),
        "tunery.base": identity.model,
        "tunery.base_revision": identity.revision,
        HELD_AS: held_as(identity),
        "tunery.task": task,
        PROCESS: this_process(),
    }
    metrics = task_scores(f"lm_eval/{task}", result).items()
    with refusals(store.uri):
        name = f"{start or Path(identity.model).name} {task}"[:200]
        run = client.create_run(store.experiment_id(EXPERIMENT), tags=redact(tags), run_name=name)
        run_id, ends = str(run.info.run_id), "FAILED"
        try:
            client.log_batch(
                run_id,
                metrics=[Metric(entity_name(key), value, now, 0) for key, value in metrics],
                params=[
                    Param(key, param_text(value))
                    for key, value in {**asdict(result.settings), **_template(identity, result.settings)}.items()
                ],
            )
            with tempfile.TemporaryDirectory(prefix="tunery-base-") as place:
                (Path(place) / "samples").mkdir()
                write_samples({task: result}, Path(place) / "samples")
                tree = {name: value for name, value in vars(result).items() if name != "samples"}
                tree["settings"] = asdict(result.settings)
                tree["scores"] = {name: asdict(score) for name, score in result.scores.items()}
                (Path(place) / _RESULT).write_text(json.dumps(redact(tree), indent=2) + "\n", encoding="utf-8")
                client.log_artifacts(run_id, place)
            # Last: who finds the key finds a whole result.
            client.log_batch(run_id, tags=[RunTag(KEY, key)])
            ends = "FINISHED"
        finally:
            client.set_terminated(run_id, ends)
    return run_id


@dataclass(frozen=True)
class StoredScores:
    """`find` and `keep` in one store, for who may also ask another process for them."""

    store: Store

    def find(self, key: str) -> TaskResult | None:
        """The function `find`."""
        return find(self.store, key)

    def keep(self, key: str, identity: BaseIdentity, result: TaskResult, start: str | None = None) -> None:
        """The function `keep`."""
        keep(self.store, key, identity, result, start)


def held_as(identity: BaseIdentity) -> str:
    """How a base's weights were held: with some layers offloaded, which are not quantised, it is another base."""
    return f"{identity.quantization}, offloaded" if "offloaded" in identity.details else identity.quantization


def _template(identity: BaseIdentity, settings: TaskSettings) -> dict[str, object]:
    """The chat template as tracking.scores.task_conditions has it: a base under another one is another base."""
    named = identity.details.get("template")
    return {"template": named} if named and settings.chat_template else {}


def find_fit(store: Store, key: str) -> dict[str, float] | None:
    """The fit of a base to rows by the names in `FIT`, from any run that logged it under this key, or None."""
    logged = (run.data.metrics for run in search_runs(store, is_tagged(FIT_KEY, key), limit=_TRIED))
    return next(({name: found[name] for name in FIT} for found in logged if found.keys() >= set(FIT)), None)


def _read(store: Store, run: Run) -> TaskResult | None:
    import pandas as pd

    try:
        with tempfile.TemporaryDirectory(prefix="tunery-base-") as place:
            text = Path(store.client.download_artifacts(run.info.run_id, _RESULT, place)).read_text(encoding="utf-8")
            tree = json.loads(text)
            samples = f"samples/{file_name(tree['settings']['task'])}"
            frame = pd.read_parquet(store.client.download_artifacts(run.info.run_id, samples, place))
        settings = TaskSettings(**tree.pop("settings"))
        scores = {name: Score(**score) for name, score in tree.pop("scores").items()}
        return TaskResult(settings=settings, scores=scores, samples=frame, **tree)
    except _unreadable():
        return None


def _unreadable() -> tuple[type[Exception], ...]:
    """Gone, cut off, or of another form: whatever is wrong with a result, computing it again mends it."""
    import requests
    from mlflow.exceptions import MlflowException

    return MlflowException, requests.RequestException, OSError, ValueError, KeyError, TypeError
