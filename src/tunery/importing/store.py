"""Results of other people's experiments as runs of kind `import`, each kept once."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import tempfile
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, InputError
from tunery.evaluation.samples import file_name
from tunery.tracking.entities import entity_name, param_text, redact_frame
from tunery.tracking.finished_runs import FinishedRun, takes_many, write_finished
from tunery.tracking.process import this_process
from tunery.tracking.redact import redact
from tunery.tracking.run import KIND, PROCESS, PROJECT
from tunery.tracking.scores import CONSTANTS, TASK_PARAM, task_params
from tunery.tracking.search import FINISHED, is_tagged, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Metric, Param

DIGEST, SOURCE, NOTE = "tunery.import_digest", "tunery.imported_from", "tunery.import_note"

_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # MLflow refuses more in one request


class NotAResultFile(InputError):
    """The file cannot be read as results; a fault where it was named, and passed over in a folder."""


@dataclass(frozen=True)
class ImportedTask:
    """What somebody measured on one task; numbers by metric, and what the source does not tell is missing."""

    metric: str  # the metric that counts
    values: Mapping[str, float]
    stderrs: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, float] = field(default_factory=dict)
    base_stderrs: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, object] = field(default_factory=dict)  # as tracking.scores.task_conditions
    samples: pd.DataFrame | None = None  # one row an item, as TaskResult.samples
    lower_is_better: frozenset[str] = frozenset()  # metrics
    counts: bool = True  # whether the run's score includes it

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better of the metric that counts."""
        return self.metric not in self.lower_is_better


@dataclass(frozen=True)
class ImportedRun:
    """One run of somebody else's."""

    name: str
    digest: str  # of all that it was read from
    source: str  # file, and the row where it has many
    base: str
    method: str  # full, lora, ...; none for a bare model
    tasks: Mapping[str, ImportedTask]
    base_revision: str = ""
    trained_on: str = ""
    seed: int | None = None
    train_rows: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # what the source tells of how it was trained, by key
    metrics: Mapping[str, float] = field(default_factory=dict)  # costs and other numbers that are no scores of tasks
    # Metric -> (optimizer step, value) of every point.
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    time_ms: int = 0  # when it was measured; 0 where nobody says
    note: str = ""
    # Whether two names are two configurations; not where the name is ours, or the settings tell all.
    name_counts: bool = True


def known_imports(store: Store) -> dict[str, tuple[str, str]]:
    """Run id and project of whole imports, by digest.

    Raises:
        TrackingError: If the store does not answer.
    """
    tags = {run.info.run_id: run.data.tags for run in search_runs(store, is_tagged(KIND, "import"), FINISHED)}
    return {found[DIGEST]: (run_id, found.get(PROJECT, "")) for run_id, found in tags.items() if DIGEST in found}


def keep_imports(store: Store, found: Sequence[ImportedRun], project: str) -> Iterator[tuple[ImportedRun, str]]:
    """Keep runs in the store's experiment, those without answers in one visit if it is a database.

    Yields:
        Each run, in their order, and its id.

    Raises:
        TrackingError: If the store refuses or does not answer.
    """
    plain = [run for run in found if not _answers(run)] if takes_many(store) else []
    ids = write_finished(store, [_finished(run, project) for run in plain]) if plain else []
    written = {run.digest: run_id for run, run_id in zip(plain, ids, strict=True)}
    for run in found:
        yield run, written.get(run.digest) or keep_import(store, run, project)


def _finished(imported: ImportedRun, project: str) -> FinishedRun:
    tags = redact({**_tags(imported, project), DIGEST: imported.digest})
    started = imported.time_ms or int(time.time() * 1000)
    return FinishedRun(_name(imported), started, tags, _params(imported), list(_metrics(imported)))


def keep_import(store: Store, imported: ImportedRun, project: str) -> str:
    """Keep one run in the store's experiment, with its answers.

    Returns:
        The run's id.

    Raises:
        TrackingError: If the store refuses or does not answer.
    """
    from mlflow.entities import RunTag

    params, metrics = _params(imported), list(_metrics(imported))
    client = store.client
    with refusals(store.uri):
        run = client.create_run(
            store.experiment_id(),
            start_time=imported.time_ms or int(time.time() * 1000),
            tags=redact(_tags(imported, project)),
            run_name=_name(imported),
        )
        run_id, ends = str(run.info.run_id), "FAILED"
        try:
            for first in range(0, len(params), _PARAMS_AT_ONCE):
                client.log_batch(run_id, params=params[first : first + _PARAMS_AT_ONCE])
            for first in range(0, len(metrics), _METRICS_AT_ONCE):
                client.log_batch(run_id, metrics=metrics[first : first + _METRICS_AT_ONCE])
            _upload(store, run_id, imported)
            # Last: who finds the digest finds a whole import.
            client.log_batch(run_id, tags=[RunTag(DIGEST, imported.digest)])
            ends = "FINISHED"
        finally:
            client.set_terminated(run_id, ends)
    return run_id


def _name(imported: ImportedRun) -> str:
    return redact(imported.name)[:200]


def _params(imported: ImportedRun) -> list[Param]:
    from mlflow.entities import Param

    return [Param(entity_name(key), param_text(value)) for key, value in redact(param_values(imported)).items()]


def _tags(imported: ImportedRun, project: str) -> dict[str, str]:
    tags = {
        "tunery.kind": "import",
        "tunery.project": project,
        "tunery.base": imported.base,
        "tunery.base_revision": imported.base_revision,
        "tunery.method": imported.method,
        "tunery.datasets": imported.trained_on,
        SOURCE: imported.source,
        PROCESS: this_process(),
        NOTE: imported.note,
        "mlflow.note.content": f"Imported from {imported.source}. {imported.note}".strip(),
    }
    return {key: value for key, value in tags.items() if value}


def param_values(imported: ImportedRun) -> dict[str, str]:
    """Params of the run, by the name that the source gives them."""
    own = {} if imported.seed is None else {"seed": str(imported.seed)}
    # Runs of one configuration differ in their seed; without one, the name is all that tells them apart.
    own |= {"name": imported.name} if imported.name_counts or not own else {}
    values = {f"import.{key}": value for key, value in {**imported.settings, **own}.items()}
    values |= {name: f"{value:.15g}" for name, value in _constants(imported).items()}
    conditions: dict[str, dict[str, object]] = {}
    for name, task in imported.tasks.items():
        known = {"metric": task.metric, "higher_is_better": task.higher_is_better, "counts": task.counts}
        conditions[name] = {"split": "all", **task.conditions, **known}
        if task.lower_is_better:
            conditions[name]["lower_is_better"] = sorted(task.lower_is_better)
    return values | task_params(conditions)


def metric_values(imported: ImportedRun) -> dict[str, float]:
    """Metrics of the run but its curves, by the name that the source gives them."""
    values = {name: value for name, value in imported.metrics.items() if name not in CONSTANTS}
    for task, result in imported.tasks.items():
        for prefix, numbers, errors in (
            ("lm_eval", result.values, result.stderrs),
            ("base", result.base, result.base_stderrs),
        ):
            values |= {f"{prefix}/{task}/{metric}": value for metric, value in numbers.items()}
            values |= {f"{prefix}/{task}/{metric}_stderr": value for metric, value in errors.items()}
    counting = [task for task in imported.tasks.values() if task.counts]
    if counting:  # the mean over the tasks that count, with a minus where less is better
        signed = [task.values[task.metric] * (1 if task.higher_is_better else -1) for task in counting]
        values["score"] = math.fsum(signed) / len(signed)
    return values


def _constants(imported: ImportedRun) -> dict[str, float]:
    known = {**imported.metrics, "train_rows": imported.train_rows}
    return {name: value for name in CONSTANTS if (value := known.get(name)) is not None}


def _metrics(imported: ImportedRun) -> Iterator[Metric]:
    from mlflow.entities import Metric

    now = imported.time_ms or int(time.time() * 1000)
    for key, value in metric_values(imported).items():
        yield Metric(entity_name(key), float(value), now, 0)
    for key, points in imported.curves.items():
        for step, value in points:
            yield Metric(entity_name(key), float(value), now, step)


def _upload(store: Store, run_id: str, imported: ImportedRun) -> None:
    kept = _answers(imported)
    if not kept:
        return
    with tempfile.TemporaryDirectory(prefix="tunery-import-") as place:
        for task, samples in kept.items():
            redact_frame(samples).to_parquet(Path(place) / file_name(task), index=False)
        store.client.log_artifacts(run_id, place, "samples")


def _answers(imported: ImportedRun) -> dict[str, pd.DataFrame]:
    return {task: result.samples for task, result in imported.tasks.items() if result.samples is not None}


def digest_of(*parts: Any) -> str:
    """32 hex digits that tell one import from another: of texts, bytes and plain trees."""
    digest = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(text).to_bytes(8, "big"))
        digest.update(text)
    return digest.hexdigest()[:32]


_LONGEST = 250  # characters of a name; MLflow refuses longer ones
_LISTED = 8
_PREFIXES = ("import.", TASK_PARAM, "lm_eval/")


def store_faults(runs: Sequence[ImportedRun]) -> list[Fault]:
    """Names that MLflow does not take or would mix up, and runs of a file that a comparison could not tell apart."""
    params = {key: None for run in runs for key in param_values(run)}
    metrics = {key: None for run in runs for key in metric_values(run)}
    return [*dict.fromkeys([*_names(params), *_names(metrics)]), *_twins(runs)]


def _names(keys: Iterable[str]) -> Iterable[Fault]:
    alike: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        alike[entity_name(key)].append(key)
    for name, theirs in alike.items():
        # The source's own words: a column, a task, a task's metric.
        words = [key.removeprefix(next(filter(key.startswith, _PREFIXES), "")) for key in theirs]
        word = words[0]
        if len(words) > 1:
            both = " and ".join(map(repr, words))
            yield Fault(f"MLflow would take {both} for one name", advice="Rename all but one.")
        if len(name) > _LONGEST:
            yield Fault("a name", f"at most {_LONGEST - len(name) + len(word)} characters long", word, "Shorten it.")
        if posixpath.normpath(name) != name or name.startswith(("/", "..")):
            yield Fault("a name", "without empty parts and dots between its slashes", word, "Rename it.")


def _twins(runs: Sequence[ImportedRun]) -> Iterable[Fault]:
    """Repetitions without a number: a comparison takes the latest of a configuration and seed, and drops the others."""
    groups: dict[Hashable, list[ImportedRun]] = defaultdict(list)
    for run in runs:
        settings = {key: value for key, value in param_values(run).items() if key.startswith("import.")}
        if run.method == "none":
            settings.pop("import.seed", None)  # a bare model has none
        told = (run.base, run.base_revision, run.method, run.trained_on)
        groups[told, tuple(sorted(settings.items()))].append(run)
    advice = "Number repetitions in a column seed, or give each row a name of its own."
    for group in groups.values():
        places = ", ".join(run.source for run in group[:_LISTED])
        twins = f"{len(group)} runs are called {group[0].name!r} and differ in no setting and no seed ({places})"
        if len(group) > 1:
            yield Fault(twins, advice=advice)
