"""What a run tells MLflow: config, curves, data, artifacts, scores. No secret passes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import flatten
from tunery.config.methods import used
from tunery.errors import ConfigError, Fault
from tunery.evaluation.samples import items_digest
from tunery.records.rows import DataReport
from tunery.records.runs import Generation, StepMetrics
from tunery.records.scores import TaskResult
from tunery.tracking import entities
from tunery.tracking.event_files import CURVES, FOLDER, EventFiles
from tunery.tracking.lineage import DATASETS, LINEAGE, extended, lineage
from tunery.tracking.provenance import Provenance
from tunery.tracking.redact import redact
from tunery.tracking.retry_queue import RetryQueue
from tunery.tracking.scores import score_metrics, task_conditions, task_params
from tunery.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow.entities import DatasetInput, Metric, Run

# The adapter that training began with, the run that trained that, and the alias that meant it then.
START, START_RUN, START_ALIAS = "tunery.start", "tunery.start_run", "tunery.start_alias"
_PARAMS_A_REQUEST = 100
# What SQLite, PostgreSQL and MySQL say of a row that is there already; and how often it is asked.
_WAS_THERE = re.compile(r"UNIQUE constraint|duplicate key|Duplicate entry")
_TRIES = 6


class RunLog:
    """The logging half of a Tracker."""

    store: Store
    run_id: str
    resumed: bool
    adapter_folder: Path | None = None
    stopped_by: str | None = None

    def prepare(self, run: Run) -> None:
        """Open the way to MLflow, and remember what a resumed run holds already."""
        self._queue = RetryQueue(self.store.client, self.run_id, Path.cwd() / "mlruns" / "unsent" / self.run_id)
        self._known_params: Mapping[str, str] = run.data.params if self.resumed else {}
        self._known_metrics: Mapping[str, float] = run.data.metrics if self.resumed else {}
        self._logged_steps: dict[str, set[int]] = {}
        self._event_files: EventFiles | None = None

    @property
    def queue(self) -> RetryQueue:
        """The way to MLflow; closed to a process that was asked to stop and goes on all the same.

        A signal's exception is lost where Python raises it in a destructor or a lock's callback, as imports have many.
        """
        if self.stopped_by is not None:
            raise KeyboardInterrupt(f"stopped by {self.stopped_by}")
        return self._queue

    # ---- what the run is

    def log_config(self, resolved: Mapping[str, Any], fingerprint: str, *, first: bool = False) -> None:
        """Log the resolved project: params cfg.*, config/project.yaml, and the tags that runs are searched by.

        Params are of what the method uses; the file holds every key.

        Args:
            resolved: The project with every default, as plain YAML types.
            fingerprint: Short name of the settings that decide the result.
            first: Whether params that a resumed run has already stay as they are: a study's totals may change.

        Raises:
            ConfigError: If a resumed run had other settings.
        """
        import yaml

        params = {entities.entity_name(f"cfg.{key}"): value for key, value in flatten(used(resolved)).items()}
        if first:
            params = {key: value for key, value in params.items() if key not in self._known_params}
        self._log_unchanged(params)
        base, adapter = resolved.get("base", {}), resolved.get("adapter", {})
        method = _method(base, adapter, resolved.get("training", {}))
        tags = {"tunery.base": base.get("model", ""), "tunery.method": method}
        self.tag(**{"tunery.fingerprint": fingerprint, **tags})
        text = yaml.safe_dump(redact(dict(resolved)), sort_keys=False, allow_unicode=True)
        self.log_text(text, "config/project.yaml")

    def log_inputs(self, digests: Mapping[str, str]) -> None:
        """Log digests of what the run reads beside its settings, as params input.*.

        Raises:
            ConfigError: If a resumed run had read something else.
        """
        self._log_unchanged({entities.entity_name(f"input.{key}"): digest for key, digest in digests.items()})

    def log_params(self, values: Mapping[str, object]) -> None:
        """Log params; a value that is too long ends in an ellipsis."""
        from mlflow.entities import Param

        texts = {entities.entity_name(key): entities.param_text(value) for key, value in redact(dict(values)).items()}
        params = [Param(key, text) for key, text in texts.items()]
        for first in range(0, len(params), _PARAMS_A_REQUEST):
            batch = params[first : first + _PARAMS_A_REQUEST]
            self._deliver("params", partial(self.store.client.log_batch, self.run_id, params=batch))

    def log_constants(self, values: Mapping[str, int]) -> None:
        """Log numbers that a run has once, such as a count, as params: MLflow draws a chart of each metric.

        What a resumed run holds already stays.
        """
        self.log_params({key: value for key, value in values.items() if key not in self._known_params})

    def log_provenance(self, provenance: Provenance) -> None:
        """Log commit, uncommitted changes, packages, hardware and command line."""
        self.tag(**provenance.tags)
        for name, text in provenance.artifacts().items():
            self.log_text(text, name)

    def log_dataset(self, report: DataReport) -> None:
        """Log the data: one dataset input a source with its digest, and data/report.json."""
        self._deliver("dataset inputs", partial(self._link_datasets, entities.data_inputs(report)))
        self.tag(**{DATASETS: _datasets(report)})
        self.log_constants({"train_rows": report.train_rows})
        self.log_dict(asdict(report), "data/report.json")

    def log_start(self, start: str, run_id: str | None, model_id: str | None, report: DataReport) -> None:
        """Log the adapter that training begins with: tags tunery.start, start_run and lineage, and a model input.

        Args:
            start: adapter.start, an alias resolved.
            run_id, model_id: Of the run that trained it, and of the logged model; None for a folder.
            report: Of the data that it is trained on with.
        """
        from mlflow.entities import LoggedModelInput

        data = extended(lineage(self.store, run_id), _datasets(report))
        self.tag(**{START: start, LINEAGE: data}, **({START_RUN: run_id} if run_id else {}))
        if model_id is not None:
            models = [LoggedModelInput(model_id)]
            self._deliver("the model input", partial(self.store.client.log_inputs, self.run_id, models=models))

    def set_description(self, markdown: str) -> None:
        """What the MLflow UI shows first; the whole of it is report.md."""
        note = entities.description(markdown, rest="report.md", longest=entities.LONGEST_TAG)
        self.tag(**{"mlflow.note.content": note})
        self.log_text(markdown, "report.md")

    def tag(self, **tags: object) -> None:
        """Set tags; a value that is too long ends in an ellipsis: tracker.tag(**{"tunery.base": "builtin:tiny"})."""
        from mlflow.entities import RunTag

        if tags:
            texts = {key: entities.param_text(value, entities.LONGEST_TAG) for key, value in redact(tags).items()}
            send = partial(self.store.client.log_batch, self.run_id, tags=[RunTag(*entry) for entry in texts.items()])
            self._deliver(f"the tags {', '.join(tags)}", send)

    # ---- curves

    def log_step(self, metrics: StepMetrics) -> None:
        """Take the values of an optimizer step; never waits. Steps that a resumed run holds already are left out."""
        values = {entities.entity_name(key): float(value) for key, value in metrics.values.items()}
        new = {key: value for key, value in values.items() if self._is_new(key, metrics.step)}
        self.log_metrics(new, metrics.step)
        if self._event_files is not None:
            self._event_files.write(new, metrics.step)

    @contextmanager
    def event_files(self, folder: Path) -> Iterator[None]:
        """Write the steps' metrics into TensorBoard's event files too; they are an artifact, however training ends.

        Raises:
            StorageError: If the folder cannot be written.
        """
        self._event_files = EventFiles(folder, self.run_id, self._held_curves())
        try:
            yield
        finally:
            written, self._event_files = self._event_files.close(), None
            self.log_artifact(written, FOLDER)

    def _held_curves(self) -> Iterator[Metric]:
        for key in self._known_metrics:
            if key.startswith(CURVES):
                yield from self.store.client.get_metric_history(self.run_id, key)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log numbers, linked to a logged model if one is named."""
        self.queue.post([_metric(key, value, step, model_id) for key, value in values.items()])

    def flush(self) -> bool:
        """Send what waits; whether all arrived."""
        return self.queue.flush()

    # ---- artifacts

    def log_text(self, text: str, name: str) -> None:
        """Write a text artifact."""
        self._deliver(f"the artifact {name}", partial(self.store.client.log_text, self.run_id, redact(text), name))

    def log_dict(self, tree: Mapping[str, Any], name: str) -> None:
        """Write a tree as JSON."""
        self.log_text(json.dumps(redact(dict(tree)), indent=2, ensure_ascii=False, default=str) + "\n", name)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file into a folder of the run's artifacts, or what a folder holds; text files lose their secrets."""
        if not path.exists():
            raise FileNotFoundError(path)
        what = f"the artifact {'/'.join(filter(None, [folder, path.name]))}"
        upload = self.store.client.log_artifacts if path.is_dir() else self.store.client.log_artifact
        clean = entities.without_secrets(path)
        if not self.queue.deliver(what, partial(upload, self.run_id, str(clean), folder)):
            kept = entities.copied(clean, self.queue.folder)  # the caller may delete the file before it can be sent
            self.queue.keep(what, partial(upload, self.run_id, str(kept), folder))
        if clean != path:
            shutil.rmtree(clean.parent.parent)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Save a figure as the artifact `name`, for instance plots/loss.png."""
        look = {"bbox_inches": "tight", "dpi": 120}
        send = partial(self.store.client.log_figure, self.run_id, figure, name, save_kwargs=look)
        self._deliver(f"the artifact {name}", send)

    def log_table(self, frame: pd.DataFrame, name: str) -> None:
        """Log a table that the MLflow UI shows and compares between runs; `name` ends in .json."""
        send = partial(self.store.client.log_table, self.run_id, entities.redact_frame(frame), name)
        self._deliver(f"the table {name}", send)

    # ---- results

    def log_scores(
        self,
        base: Mapping[str, TaskResult],
        tuned: Mapping[str, TaskResult],
        *,
        score: float | None = None,
        base_score: float | None = None,
        step: int = 0,
        model_id: str | None = None,
    ) -> dict[str, float]:
        """Log lm_eval/<task>/<metric>, base/..., delta/..., their errors, and `score`.

        Args:
            score: Mean of the primary metrics of the tuned model.
            base_score: The same of the base.
            step: Optimizer step of the checkpoint that was scored.
            model_id: The logged model that the tuned scores belong to.

        Returns:
            What was logged, by name.
        """
        results = {**base, **tuned}
        digests = {task: items_digest(result.samples["item_id"]) for task, result in results.items()}
        if digests:
            self._deliver("dataset inputs", partial(self._link_datasets, entities.evaluation_inputs(results)))
        points = [
            _metric(key, value, step, model_id, dataset_name=task, dataset_digest=digests[task])
            for task, metrics in score_metrics(base, tuned).items()
            for key, value in metrics.items()
        ]
        heads = {"score": score, "base/score": base_score}
        if score is not None and base_score is not None:
            heads["delta/score"] = score - base_score
        points += [_metric(key, value, step, model_id) for key, value in heads.items() if value is not None]
        self.queue.post(points)
        return {point.key: point.value for point in points}

    def log_tasks(
        self,
        results: Mapping[str, TaskResult],
        *,
        asked: Mapping[str, str],
        counted: Collection[str],
        split: str,
        template: str | None = None,
    ) -> None:
        """Log the conditions of each task as a param task.<name>: what other runs are compared by.

        Args:
            asked: The metric of each task that was asked for; leaf tasks of a group are not.
            counted: Tasks that are part of the run's `score`.
            split: Items that the score is computed on: all, dev or locked.
            template: The chat template that items are asked through, if they are; None if unknown.
        """
        conditions = {
            task: task_conditions(results[task], metric, counts=task in counted, split=split, template=template)
            for task, metric in asked.items()
            if task in results
        }
        self.log_params(task_params(conditions))

    def log_samples(self, results: Mapping[str, TaskResult], folder: str = "samples") -> None:
        """Write samples/<task>.parquet: one row an item."""
        with tempfile.TemporaryDirectory(prefix="tunery-samples-") as place:
            for path in entities.write_samples(results, Path(place)):
                self.log_artifact(path, folder)

    def log_generations(self, generations: Sequence[Generation]) -> None:
        """Log base and tuned answers side by side as an MLflow table."""
        import pandas as pd

        self.log_table(pd.DataFrame([asdict(generation) for generation in generations]), "generations.json")

    def _deliver(self, what: str, send: Callable[[], object]) -> None:
        if not self.queue.deliver(what, send):
            self.queue.keep(what, send)

    def _link_datasets(self, inputs: list[DatasetInput]) -> None:
        """Link dataset inputs to the run, also when another run adds the same dataset at that moment.

        MLflow looks for a dataset, then adds it; it refuses the second of two runs, which finds it when it asks again.
        Source: mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore._log_inputs_impl
        """
        from mlflow.exceptions import MlflowException

        for left in reversed(range(_TRIES)):
            try:
                self.store.client.log_inputs(self.run_id, inputs)
                return
            except MlflowException as error:
                if not left or not _WAS_THERE.search(str(error)):
                    raise

    def _is_new(self, key: str, step: int) -> bool:
        if key not in self._known_metrics:
            return True
        if key not in self._logged_steps:
            history = self.store.client.get_metric_history(self.run_id, key)
            self._logged_steps[key] = {metric.step for metric in history}
        return step not in self._logged_steps[key]

    def _log_unchanged(self, params: Mapping[str, object]) -> None:
        """Log params, of which a resumed run must not have other values."""
        changed = [
            Fault(key.removeprefix("cfg."), f"{self._known_params[key]}, as when the run began", value)
            for key, value in params.items()
            if key in self._known_params and self._known_params[key] != entities.param_text(value)
        ]
        if changed:
            raise ConfigError(f"run {self.run_id}, to be resumed", changed, "Undo the change, or start a new run.")
        self.log_params(params)


def _datasets(report: DataReport) -> str:
    return ", ".join(entities.dataset_name(source) for source in report.sources if source.role == "training")


def _method(base: Mapping[str, Any], adapter: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The name that people use: full, lora, qlora, dora or qdora; of another method than fine-tuning, its own.

    Context distillation has two: whether the teacher learns too decides what comes out.
    """
    if (other := training.get("method", "sft")) != "sft":
        taught = (training.get("distillation") or {}).get("teacher") if other == "context-distillation" else None
        return f"recursive-{other}" if taught == "current" else str(other)
    if adapter.get("method") == "full":
        return "full"
    quantised = "q" if base.get("quantization") in ("nf4", "int8") else ""
    return f"{quantised}{'dora' if adapter.get('dora') else 'lora'}"


def _metric(key: str, value: float, step: int, model_id: str | None, **dataset: str) -> Metric:
    """A point of now; the base's scores are not the logged adapter's."""
    from mlflow.entities import Metric

    owner = None if key.startswith("base/") else model_id
    return Metric(entities.entity_name(key), float(value), int(time.time() * 1000), step, model_id=owner, **dataset)
