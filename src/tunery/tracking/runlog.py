"""What a run tells MLflow: config, curves, data, artifacts, scores. All of it passes the writer."""

from __future__ import annotations

import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import flatten
from tunery.errors import ConfigError, Fault
from tunery.evaluation.samples import file_name, items_digest
from tunery.records import DataReport, Generation, StepMetrics, TaskResult
from tunery.tracking.datasets import dataset_name, evaluation_inputs, training_inputs
from tunery.tracking.provenance import Provenance
from tunery.tracking.redact import redact
from tunery.tracking.retry_queue import MetricValue
from tunery.tracking.scores import score_metrics, task_conditions, task_params
from tunery.tracking.store import Store
from tunery.tracking.writer import RunWriter, entity_name, redact_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow.entities import Run

_LONGEST_NOTE = 8000


class RunLog(ABC):
    """The logging half of a Tracker."""

    store: Store
    run_id: str
    resumed: bool
    adapter_folder: Path | None = None

    @property
    @abstractmethod
    def writer(self) -> RunWriter:
        """The way to MLflow."""

    def prepare(self, run: Run) -> None:
        """Remember what a resumed run holds already."""
        self._known_params: Mapping[str, str] = run.data.params if self.resumed else {}
        self._known_metrics: Mapping[str, float] = run.data.metrics if self.resumed else {}
        self._logged_steps: dict[str, set[int]] = {}

    # ---- what the run is

    def log_config(self, resolved: Mapping[str, Any], fingerprint: str, *, first: bool = False) -> None:
        """Log the resolved project: params cfg.*, config/project.yaml, and the tags that runs are searched by.

        Args:
            resolved: The project with every default, as plain YAML types.
            fingerprint: Short name of the settings that decide the result.
            first: Whether params that a resumed run has already stay as they are: a study's totals may change.

        Raises:
            ConfigError: If a resumed run had other settings.
        """
        import yaml

        params = {entity_name(f"cfg.{key}"): value for key, value in flatten(dict(resolved)).items()}
        if first:
            params = {key: value for key, value in params.items() if key not in self._known_params}
        self._refuse_changes(params)
        self.writer.params(params)
        base, adapter = resolved.get("base", {}), resolved.get("adapter", {})
        self.tag(
            **{
                "tunery.fingerprint": fingerprint,
                "tunery.base": base.get("model", ""),
                "tunery.method": _method(base, adapter),
            }
        )
        self.log_text(
            yaml.safe_dump(redact(dict(resolved)), sort_keys=False, allow_unicode=True), "config/project.yaml"
        )

    def log_inputs(self, digests: Mapping[str, str]) -> None:
        """Log digests of what the run reads beside its settings, as params input.*.

        Raises:
            ConfigError: If a resumed run had read something else.
        """
        params = {entity_name(f"input.{key}"): digest for key, digest in digests.items()}
        self._refuse_changes(params)
        self.writer.params(params)

    def log_provenance(self, provenance: Provenance) -> None:
        """Log commit, uncommitted changes, packages, hardware and command line."""
        self.tag(**provenance.tags)
        for name, text in provenance.artifacts().items():
            self.log_text(text, name)

    def log_dataset(self, report: DataReport) -> None:
        """Log the data: one dataset input a source with its digest, and data/report.json."""
        self.writer.datasets(training_inputs(report))
        self.tag(**{"tunery.datasets": ", ".join(dataset_name(source) for source in report.sources)})
        self.log_metrics({"train_rows": report.train_rows})
        self.log_dict(asdict(report), "data/report.json")

    def set_description(self, markdown: str) -> None:
        """What the MLflow UI shows first; the whole of it is report.md."""
        note = "\n\n*The rest is in report.md.*"
        short = markdown if len(markdown) <= _LONGEST_NOTE else f"{markdown[: _LONGEST_NOTE - len(note)]}{note}"
        self.tag(**{"mlflow.note.content": short})
        self.log_text(markdown, "report.md")

    def tag(self, **tags: object) -> None:
        """Set tags: tracker.tag(**{"tunery.base": "builtin:tiny"})."""
        if tags:
            self.writer.tags(tags)

    # ---- curves

    def log_step(self, metrics: StepMetrics) -> None:
        """Take the values of an optimizer step; never waits. Steps that a resumed run holds already are left out."""
        now = int(time.time() * 1000)
        names = {entity_name(key): float(value) for key, value in metrics.values.items()}
        self.writer.points(
            [
                MetricValue(key, value, metrics.step, now)
                for key, value in names.items()
                if self._is_new(key, metrics.step)
            ]
        )

    def log_metrics(self, values: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log numbers that are not a curve, linked to a logged model if one is named."""
        now = int(time.time() * 1000)
        self.writer.points(
            [MetricValue(entity_name(key), float(value), step, now, model_id) for key, value in values.items()]
        )

    def flush(self) -> bool:
        """Send what waits; whether all arrived."""
        return self.writer.retry_queue.flush()

    # ---- artifacts

    def log_text(self, text: str, name: str) -> None:
        """Write a text artifact."""
        self.writer.text(text, name)

    def log_dict(self, tree: Mapping[str, Any], name: str) -> None:
        """Write a tree as JSON, or as YAML if `name` ends so."""
        import yaml

        clean = redact(dict(tree))
        if name.endswith((".yaml", ".yml")):
            self.log_text(yaml.safe_dump(clean, sort_keys=False, allow_unicode=True), name)
        else:
            self.log_text(json.dumps(clean, indent=2, ensure_ascii=False, default=str) + "\n", name)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file into a folder of the run's artifacts."""
        self.writer.file(path, folder)

    def log_folder(self, path: Path, folder: str | None = None) -> None:
        """Upload what a folder holds."""
        self.writer.file(path, folder)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Save a figure as the artifact `name`, for instance plots/loss.png."""
        with tempfile.TemporaryDirectory(prefix="tunery-figure-") as folder:
            path = Path(folder) / Path(name).name
            figure.savefig(path, bbox_inches="tight", dpi=120)
            self.writer.file(path, _folder_of(name))

    def log_table(self, frame: pd.DataFrame, name: str) -> None:
        """Log a table that the MLflow UI shows and compares between runs; `name` ends in .json."""
        self.writer.table(frame, name)

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
            base, tuned: Results by task.
            score: Mean of the primary metrics of the tuned model.
            base_score: The same of the base.
            step: Optimizer step of the checkpoint that was scored.
            model_id: The logged model that the tuned scores belong to.

        Returns:
            What was logged, by name.
        """
        metrics = score_metrics(base, tuned)
        digests = {task: items_digest(result.samples["item_id"]) for task, result in {**base, **tuned}.items()}
        if digests:
            self.writer.datasets(evaluation_inputs({**base, **tuned}))
        now = int(time.time() * 1000)
        points = [
            MetricValue(entity_name(m.key), m.value, step, now, _owner(m.key, model_id), m.task, digests[m.task])
            for m in metrics
        ]
        self.writer.points(points)
        heads = {
            "score": score,
            "base/score": base_score,
            "delta/score": None if score is None or base_score is None else score - base_score,
        }
        whole = {key: value for key, value in heads.items() if value is not None}
        for key, value in whole.items():
            self.log_metrics({key: value}, step, _owner(key, model_id))
        return {**{point.key: point.value for point in points}, **whole}

    def log_tasks(
        self, results: Mapping[str, TaskResult], *, asked: Mapping[str, str], counted: Collection[str], split: str
    ) -> None:
        """Log the conditions of each task as a param task.<name>: what other runs are compared by.

        Args:
            results: Results by task.
            asked: The metric of each task that was asked for; leaf tasks of a group are not.
            counted: Tasks that are part of the run's `score`.
            split: Items that the score is computed on: all, dev or locked.
        """
        conditions = {
            task: task_conditions(results[task], metric, counts=task in counted, split=split)
            for task, metric in asked.items()
            if task in results
        }
        self.writer.params(task_params(conditions))

    def log_samples(self, results: Mapping[str, TaskResult], folder: str = "samples") -> None:
        """Write samples/<task>.parquet: one row an item."""
        with tempfile.TemporaryDirectory(prefix="tunery-samples-") as place:
            for task, result in results.items():
                path = Path(place) / file_name(task)
                redact_frame(result.samples).to_parquet(path, index=False)
                self.writer.file(path, folder)

    def log_generations(self, generations: Sequence[Generation], name: str = "generations.json") -> None:
        """Log base and tuned answers side by side as an MLflow table."""
        import pandas as pd

        self.log_table(pd.DataFrame([asdict(generation) for generation in generations]), name)

    # ---- inner

    def _is_new(self, key: str, step: int) -> bool:
        if key not in self._known_metrics:
            return True
        if key not in self._logged_steps:
            history = self.store.client.get_metric_history(self.run_id, key)
            self._logged_steps[key] = {metric.step for metric in history}
        return step not in self._logged_steps[key]

    def _refuse_changes(self, params: Mapping[str, object]) -> None:
        from tunery.tracking.writer import param_text

        changed = [
            Fault(key.removeprefix("cfg."), f"{self._known_params[key]}, as when the run began", value)
            for key, value in params.items()
            if key in self._known_params and self._known_params[key] != param_text(value)
        ]
        if changed:
            raise ConfigError(f"--resume {self.run_id}", changed, "Undo the change, or start a new run.")

    def _where_adapter_lies(self) -> str:
        if self.adapter_folder is None:
            return "No adapter was written yet."
        return f"The adapter is not lost: it lies in {self.adapter_folder}."


def _method(base: Mapping[str, Any], adapter: Mapping[str, Any]) -> str:
    """The name that people use: full, lora, qlora, dora or qdora."""
    if adapter.get("method") == "full":
        return "full"
    quantised = "q" if base.get("quantization") in ("nf4", "int8") else ""
    return f"{quantised}{'dora' if adapter.get('dora') else 'lora'}"


def _owner(key: str, model_id: str | None) -> str | None:
    """The base's scores are not the logged adapter's."""
    return None if key.startswith("base/") else model_id


def _folder_of(name: str) -> str | None:
    folder = str(Path(name).parent)
    return None if folder == "." else folder
