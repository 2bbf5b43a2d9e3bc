"""The stored answers of a few runs, and of their bases, for tests that compare item by item."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.entries import TaskScore
from tunery.evaluation.samples import file_name
from tunery.tracking.entries_bases import KeptBase, kept_bases
from tunery.tracking.entries_items import anchored, restricted
from tunery.tracking.entries_records import Reading, Source
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    import pandas as pd

_AT_ONCE = 8  # downloads from a remote artifact store
CURVES = ("train/loss", "validation/nll")


def with_answers(store: Store, readings: Sequence[Reading]) -> list[Reading]:
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


def with_curves(store: Store, readings: Sequence[Reading], names: Sequence[str] = CURVES) -> list[Reading]:
    """The same readings with curves of the optimisation: one request a curve, so for a few runs only."""
    with refusals(store.uri):
        return [replace(one, entry=replace(one.entry, curves=_curves(store, one, names))) for one in readings]


def _curves(store: Store, reading: Reading, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
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

    def of(self, reading: Reading, locked: Iterable[str]) -> Reading:
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

    def _energy(self, reading: Reading) -> dict[str, float]:
        """Joules that the GPUs drew while the run was on, where MLflow's system metrics hold their power."""
        if "energy_joules" in reading.entry.costs or not reading.power:
            return {}
        with refusals(self.store.uri):
            histories = [self.store.client.get_metric_history(reading.entry.run_id, name) for name in reading.power]
        return {"energy_joules": sum(joules([(one.timestamp, one.value) for one in found]) for found in histories)}

    def _base(self, source: Source, score: TaskScore, own: pd.DataFrame) -> pd.DataFrame | None:
        """The base's answers to the same items, of the latest that has them; None where nobody kept them."""
        if source.is_bare or not source.base:
            return None
        kept = (base for base in self.bases if base.answers(source, score))
        frames = (self._read(base.source, score.task, score.metric) for base in kept)
        found = (_of_items(frame, own["item_id"]) for frame in frames if frame is not None)
        return next((frame for frame in found if frame is not None), None)

    def _read(self, source: Source, task: str, metric: str) -> pd.DataFrame | None:
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


def _load(store: Store, source: Source, task: str, metric: str) -> pd.DataFrame | None:
    import requests
    from mlflow.exceptions import MlflowException

    name = f"{source.folder}/{file_name(task)}"
    try:
        with _file(store, source, name) as path:
            return _columns(path, metric)
    except (MlflowException, requests.RequestException, OSError, ValueError):
        return None  # gone, cut off, or never there: the scores stand without their items


@contextmanager
def _file(store: Store, source: Source, name: str) -> Iterator[Path]:
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
