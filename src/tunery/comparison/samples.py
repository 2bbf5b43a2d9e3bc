"""The stored answers of a few runs, and of their bases, for tests that compare item by item."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.comparison.conditions import metrics_of
from tunery.comparison.entries import RunEntry, SamplesLocation, TaskScore, counting_anywhere, ranked_by
from tunery.evaluation.result import mean_over_tasks
from tunery.evaluation.samples import file_name, items_digest
from tunery.tracking.base_scores import EXPERIMENT, KEY
from tunery.tracking.store import Store, refusals
from tunery.tracking.writer import entity_name

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_AT_ONCE = 8  # downloads from a remote artifact store
CURVES = ("train/loss", "validation/nll")


def with_answers(store: Store, readings: Sequence[RunEntry]) -> list[RunEntry]:
    """The same readings with their answers and those of their bases.

    Where one of them was chosen on dev items, and so has its locked ones for a score, the others are taken on their
    locked items too: the scores of a study's winner and of a plain run then stand on one board.

    Args:
        store: MLflow's.
        readings: Those that are to be tested item by item.
    """
    locked = {
        task for one in readings for task, score in one.entry.tasks.items() if score.conditions.get("split") == "locked"
    }
    answers = _Answers(store, kept_bases(store))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda reading: answers.of(reading, locked), readings))


def with_curves(store: Store, readings: Sequence[RunEntry], names: Sequence[str] = CURVES) -> list[RunEntry]:
    """The same readings with curves of the optimisation: one request a curve, so for a few runs only."""
    with refusals(store.uri):
        return [replace(one, entry=replace(one.entry, curves=_curves(store, one, names))) for one in readings]


def _curves(store: Store, reading: RunEntry, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    if reading.entry.kind not in ("train", "trial", "import"):
        return {}
    found = {}
    for name in names:
        history = store.client.get_metric_history(reading.entry.run_id, name)
        points = {point.step: point.value for point in history}  # a resumed run may hold a step twice
        if len(points) > 1:
            found[name] = sorted(points.items())
    return found


@dataclass
class _Answers:
    """Reads each file once, whoever asks for it."""

    store: Store
    bases: Sequence[KeptBase]
    _frames: dict[tuple[str, str], pd.DataFrame | None] = field(default_factory=dict)

    def of(self, reading: RunEntry, locked: Iterable[str]) -> RunEntry:
        """A reading with its answers; what its scores say of items, errors and base is taken from them."""
        entry, missing = reading.entry, []
        tasks, samples, base_samples = dict(entry.tasks), {}, {}
        for task, score in entry.tasks.items():
            own = self._read(reading.sources[task], task, score.metric)
            if own is None:
                missing.append(task)
                continue
            tasks[task], samples[task] = restricted(score, own, task in locked)
            base = self._base(reading.sources[task], tasks[task], samples[task])
            if base is not None:
                tasks[task] = anchored(tasks[task], samples[task], base)
                base_samples[task] = base
        notes = (*entry.notes, f"keeps no answers of {', '.join(missing)}") if missing else entry.notes
        costs = {**entry.costs, **self._energy(reading)}
        changed = replace(entry, tasks=tasks, samples=samples, base_samples=base_samples, notes=notes, costs=costs)
        return replace(reading, entry=changed)

    def _energy(self, reading: RunEntry) -> dict[str, float]:
        """Joules that the GPUs drew while the run was on, where MLflow's system metrics hold their power."""
        if "energy_joules" in reading.entry.costs or not reading.power:
            return {}
        with refusals(self.store.uri):
            histories = [self.store.client.get_metric_history(reading.entry.run_id, name) for name in reading.power]
        return {"energy_joules": sum(joules([(one.timestamp, one.value) for one in found]) for found in histories)}

    def _base(self, source: SamplesLocation, score: TaskScore, own: pd.DataFrame) -> pd.DataFrame | None:
        """The base's answers to the same items, of the latest that has them; None where nobody kept them."""
        if source.is_bare or not source.base:
            return None
        kept = (base for base in self.bases if base.answers(source, score))
        frames = (self._read(base.source, score.task, score.metric) for base in kept)
        found = (_of_items(frame, own["item_id"]) for frame in frames if frame is not None)
        return next((frame for frame in found if frame is not None), None)

    def _read(self, source: SamplesLocation, task: str, metric: str) -> pd.DataFrame | None:
        key = (f"{source.run_id}/{source.folder}/{task}", metric)
        if key not in self._frames:
            frame = _load(self.store, source, task, metric)
            if not source.is_kept_base:
                return frame  # nobody else asks for it
            self._frames[key] = frame
        return self._frames[key]


def _of_items(frame: pd.DataFrame, items: pd.Series[Any]) -> pd.DataFrame | None:
    """The answers to these items; None where some are missing."""
    found = frame if len(frame) == len(items) else frame[frame["item_id"].isin(items)]
    same = len(found) == len(items) and set(found["item_id"]) == set(items)
    return found.drop(columns="split", errors="ignore") if same else None


def _load(store: Store, source: SamplesLocation, task: str, metric: str) -> pd.DataFrame | None:
    import requests
    from mlflow.exceptions import MlflowException

    name = f"{source.folder}/{file_name(task)}"
    try:
        with _file(store, source, name) as path:
            return _columns(path, metric)
    except (MlflowException, requests.RequestException, OSError, ValueError):
        return None  # gone, cut off, or never there: the scores stand without their items


@contextmanager
def _file(store: Store, source: SamplesLocation, name: str) -> Iterator[Path]:
    """Where an artifact can be read: in its place where that is a folder of this machine, else a copy."""
    folder = _local(source.artifact_uri)
    place: AbstractContextManager[str] = (
        nullcontext("") if folder is not None else TemporaryDirectory(prefix="tunery-answers-")
    )
    with place as temporary:
        yield (
            folder / name
            if folder is not None
            else Path(store.client.download_artifacts(source.run_id, name, temporary))
        )


def _local(uri: str) -> Path | None:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(uri)) if uri.startswith(("/", "file:")) else None


def _columns(path: Path, metric: str) -> pd.DataFrame | None:
    """Only what a test needs: of 20,000 items, the texts would take most of the memory."""
    import pandas as pd
    from pyarrow import parquet  # type: ignore[import-untyped]

    there = parquet.read_schema(path).names
    if "item_id" not in there or metric not in there:
        return None
    frame = pd.read_parquet(
        path, columns=[name for name in ("item_id", "split", "task", "passage", metric) if name in there]
    )
    if "task" in frame and frame["task"].nunique() < 2:
        frame = frame.drop(columns="task")
    if "passage" in frame:  # of a group, some of whose tasks have none
        frame["passage"] = frame["passage"].fillna(frame["item_id"])
    return frame


def joules(watts: Iterable[tuple[int, float]]) -> float:
    """The integral of power over time by the trapezoidal rule.

    Args:
        watts: Milliseconds and watts of every reading, in any order.
    """
    ordered = sorted(watts)
    steps = itertools.pairwise(ordered)
    return math.fsum((later - time) / 1000 * (power + then) / 2 for (time, power), (later, then) in steps)


_PAGE = 1000


@dataclass(frozen=True)
class KeptBase:
    """One base's result of one task."""

    source: SamplesLocation
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    def answers(self, source: SamplesLocation, score: TaskScore) -> bool:
        """Whether a score of `source` stands on this base, asked in the same way; the items are for others to check."""
        if self.params.get("task") != score.task or not self._is_base_of(source):
            return False
        if not _agrees(self.params.get("version", "").partition("+")[0], score.conditions.get("version")):
            return False
        if not _agrees(self.params.get("version", "").partition("+")[2], score.conditions.get("settings")):
            return False
        asked = (self.params.get("few_shot"), self.params.get("chat_template"))
        if not all(map(_agrees, asked, (score.conditions.get("few_shot"), score.conditions.get("chat_template")))):
            return False
        own = self.metrics.get(entity_name(f"lm_eval/{score.task}/{score.metric}"))
        return own is not None and (score.base is None or math.isclose(own, score.base, rel_tol=1e-9, abs_tol=1e-12))

    def _is_base_of(self, source: SamplesLocation) -> bool:
        mine = self.source
        same = mine.base_revision == source.base_revision if source.base_revision else mine.base == source.base
        return same and _agrees(mine.quantization, source.quantization)


def _agrees(one: str | None, other: str | None) -> bool:
    """Whether two agree as far as both are known."""
    return one in (None, "") or other in (None, "") or one == other


def kept_bases(store: Store) -> list[KeptBase]:
    """Every kept result, newest first.

    Raises:
        TrackingError: If the store does not answer.
    """
    found: list[KeptBase] = []
    with refusals(store.uri):
        experiment = store.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        token = None
        while True:
            page = store.client.search_runs(
                [experiment.experiment_id],
                "attributes.status = 'FINISHED'",
                order_by=["attributes.start_time DESC"],
                max_results=_PAGE,
                page_token=token,
            )
            found += [_kept(run) for run in page if KEY in run.data.tags]
            token = page.token
            if not token:
                return found


def _kept(run: Run) -> KeptBase:
    tags = run.data.tags
    source = SamplesLocation(
        run_id=run.info.run_id,
        artifact_uri=str(run.info.artifact_uri),
        folder="samples",
        base=tags.get("tunery.base", ""),
        base_revision=tags.get("tunery.base_revision", ""),
        quantization=tags.get("tunery.quantization"),
        is_kept_base=True,
    )
    return KeptBase(source, run.data.params, metrics_of(run))


Average = Callable[["pd.DataFrame"], tuple[float, float | None]]


def restricted(score: TaskScore, frame: pd.DataFrame, to_locked: bool) -> tuple[TaskScore, pd.DataFrame]:
    """The score and the answers that it is the mean of; on locked items alone where that is asked and can be done."""
    rows = frame[frame["split"] == "locked"] if "split" in frame else frame
    split = score.conditions.get("split")
    if split == "locked":
        known = _known(score, rows)
    elif split == "all" and to_locked and len(rows) < len(frame) and (average := _average(frame, score)):
        value, stderr = average(rows)
        known = replace(score, value=value, stderr=stderr, base=None, base_stderr=None)
        known = replace(known, conditions={**score.conditions, "split": "locked"})
    else:
        known, rows = _known(score, frame), frame
    rows = rows.drop(columns="split", errors="ignore").reset_index(drop=True)
    conditions = {**known.conditions, "items": items_digest(rows["item_id"])}
    return replace(known, items=len(rows), conditions=conditions), rows


def _known(score: TaskScore, rows: pd.DataFrame) -> TaskScore:
    """With the error that its items tell, where none was logged."""
    average = _average(rows, score) if score.stderr is None else None
    return score if average is None else replace(score, stderr=average(rows)[1])


def anchored(score: TaskScore, own: pd.DataFrame, base: pd.DataFrame) -> TaskScore:
    """With the base's value on the same items, where none was logged."""
    average = _average(own, score) if score.base is None else None
    if average is None:
        return score
    value, stderr = average(base)
    return replace(score, base=value, base_stderr=stderr)


def _average(frame: pd.DataFrame, score: TaskScore) -> Average | None:
    """How the score is made of its items: their mean, or the mean of leaf tasks that count alike; None: neither."""

    def pooled(rows: pd.DataFrame) -> tuple[float, float | None]:
        values = rows[score.metric].astype(float)
        error = float(values.std(ddof=1)) / math.sqrt(max(len(values), 1))
        return float(values.mean()), error if math.isfinite(error) else None

    def alike(rows: pd.DataFrame) -> tuple[float, float | None]:
        return mean_over_tasks(rows, score.metric)

    ways: list[Average] = [pooled, alike] if "task" in frame else [pooled]
    return next((way for way in ways if math.isclose(way(frame)[0], score.value, rel_tol=1e-6, abs_tol=1e-9)), None)


def contenders(readings: Sequence[RunEntry], most: int) -> list[RunEntry]:
    """The runs that are tested item by item: the best configurations of the largest set that was asked the same.

    Args:
        readings: All that are compared.
        most: How many configurations at most, each with all of its seeds.
    """
    tasks = counting_anywhere(one.entry for one in readings)
    sets: dict[frozenset[str], dict[str, list[RunEntry]]] = {}
    for reading in readings:
        asked = frozenset(ranked_by(reading.entry, tasks))
        sets.setdefault(asked, {}).setdefault(reading.entry.configuration, []).append(reading)
    ordered = sorted(sets.values(), key=lambda groups: -sum(map(len, groups.values())))
    best = [
        group
        for groups in ordered
        for group in sorted(groups.values(), key=lambda group: _level(group, tasks), reverse=True)
    ]
    return [reading for group in best[:most] for reading in group]


def _level(group: Sequence[RunEntry], tasks: Collection[str]) -> float:
    """Mean over tasks and seeds, greater is better; what is no number comes last."""
    values = [
        score.value if score.higher_is_better else -score.value
        for one in group
        for score in ranked_by(one.entry, tasks).values()
    ]
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else -math.inf
