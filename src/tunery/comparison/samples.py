"""The stored answers of a few runs, and of their bases, for tests that compare item by item."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunery.comparison.conditions import metrics_of
from tunery.comparison.entries import RunEntry, SamplesLocation, TaskScore, counting_anywhere, ranked_by
from tunery.evaluation.answers import chosen_answers, columns_read
from tunery.evaluation.result import average, averaging_of
from tunery.evaluation.samples import file_name, items_digest
from tunery.tracking.base_scores import EXPERIMENT, HELD_AS, KEY
from tunery.tracking.entities import entity_name
from tunery.tracking.places import moved
from tunery.tracking.run_facts import artifact
from tunery.tracking.search import FINISHED, experiments, search_runs
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    import pandas as pd


_AT_ONCE = 8  # downloads from a remote artifact store
CURVES = ("train/loss", "validation/nll")


def best_configurations(entries: Sequence[RunEntry], most: int) -> list[RunEntry]:
    """The runs to test item by item: all seeds of the best configurations, the largest set of equal tasks first."""
    tasks = counting_anywhere(entries)
    sets: dict[frozenset[str], dict[str, list[RunEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        sets[frozenset(ranked_by(entry, tasks))][entry.configuration].append(entry)

    def mean_score(group: Sequence[RunEntry]) -> float:
        """Over tasks and seeds, greater is better; -inf if one of them is no number."""
        scores = [score for entry in group for score in ranked_by(entry, tasks).values()]
        values = [score.value if score.higher_is_better else -score.value for score in scores]
        return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else -math.inf

    best: list[list[RunEntry]] = []
    for groups in sorted(sets.values(), key=lambda groups: -sum(map(len, groups.values()))):
        best += sorted(groups.values(), key=mean_score, reverse=True)
    return list(itertools.chain(*best[:most]))


def with_curves(store: Store, entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The same entries with their loss curves: one request a curve, so only for a few runs."""
    found = []
    for entry in entries:
        curves = {}
        for name in CURVES if entry.kind in ("train", "trial", "import") else ():
            with refusals(store.uri):
                history = store.client.get_metric_history(entry.run_id, name)
            points = {point.step: point.value for point in history}  # a resumed run may hold a step twice
            if points:
                curves[name] = sorted(points.items())
        found.append(replace(entry, curves=curves))
    return found


# ---- answers


def with_answers(store: Store, entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The same entries, which are to be tested item by item, with their answers and those of their bases.

    If the score of one of them is of locked items, because it was chosen on dev items, the others are scored on their
    locked items too: a study's winner and a plain run can then be ranked together.
    """
    scores = [(task, score) for entry in entries for task, score in entry.tasks.items()]
    locked = {task for task, score in scores if score.conditions.get("split") == "locked"}
    answers = _Answers(store, kept_bases(store))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda entry: answers.of(entry, locked), entries))


@dataclass
class _Answers:
    """Reads answers of runs, and those of each base once."""

    store: Store
    bases: Sequence[KeptBase]
    _of_bases: dict[tuple[str, str], pd.DataFrame | None] = field(default_factory=dict)

    def of(self, entry: RunEntry, locked: Collection[str]) -> RunEntry:
        """The entry with its answers, and with the items, errors and base scores that they show."""
        missing = []
        tasks, samples, base_samples = dict(entry.tasks), {}, {}
        for task, score in entry.tasks.items():
            own = _load(self.store, entry.locations[task], task, score.metric)
            if own is None:
                missing.append(task)
                continue
            tasks[task], samples[task] = _restricted(score, own, task in locked)
            base = self._base(entry.locations[task], tasks[task], samples[task])
            if base is not None:
                tasks[task] = _with_base(tasks[task], samples[task], base)
                base_samples[task] = base
        notes = (*entry.notes, *_without_answers(self.store, entry, missing))
        costs = {**entry.costs, **_energy(self.store, entry)}
        return replace(entry, tasks=tasks, samples=samples, base_samples=base_samples, notes=notes, costs=costs)

    def _base(self, location: SamplesLocation, score: TaskScore, own: pd.DataFrame) -> pd.DataFrame | None:
        """The base's answers to the same items, of the latest that has them; None if none were kept."""
        if location.is_bare or not location.base:
            return None
        for base in self.bases:
            frame = self._of_base(base.location, score) if base.fits(location, score) else None
            if frame is not None:
                found = frame if len(frame) == len(own) else frame[frame["item_id"].isin(own["item_id"])]
                if len(found) == len(own) and set(found["item_id"]) == set(own["item_id"]):
                    return found.drop(columns="split", errors="ignore")
        return None

    def _of_base(self, location: SamplesLocation, score: TaskScore) -> pd.DataFrame | None:
        key = (location.run_id, score.metric)
        if key not in self._of_bases:
            self._of_bases[key] = _load(self.store, location, score.task, score.metric)
        return self._of_bases[key]


def _without_answers(store: Store, entry: RunEntry, missing: Sequence[str]) -> Iterator[str]:
    """Why tasks have no answers: some runs never kept any, others cannot be reached."""
    if missing:
        away = moved(store, entry.locations[missing[0]].artifact_uri)
        what = f"answers of {', '.join(missing)}"
        yield f"keeps no {what}" if away is None else f"its {what} are out of reach: {away}"


def _load(store: Store, location: SamplesLocation, task: str, metric: str) -> pd.DataFrame | None:
    """Only what a test needs: of 20,000 items, the texts would take most of the memory."""
    import pandas as pd
    from pyarrow import parquet

    name = f"{location.folder}/{file_name(task)}"
    try:
        with artifact(store, location.run_id, location.artifact_uri, name) as path:
            there = parquet.read_schema(path).names
            if "item_id" not in there or metric not in there:
                return None
            wanted = ("item_id", "split", "task", "passage", metric)
            columns = [column for column in wanted if column in there]
            texts = [column for column in columns_read(metric) if column in there]
            frame = pd.read_parquet(path, columns=[*columns, *texts])
    except (OSError, ValueError):
        return None  # gone, cut off, or never there: the scores are compared without their items
    answers = chosen_answers(frame, metric)
    frame = frame[columns] if answers is None else frame[columns].join(answers)
    if "task" in frame and frame["task"].nunique() < 2:
        frame = frame.drop(columns="task")
    if "passage" in frame:  # of a group, some of whose tasks have none
        frame["passage"] = frame["passage"].fillna(frame["item_id"])
    return frame


def _restricted(score: TaskScore, frame: pd.DataFrame, to_locked: bool) -> tuple[TaskScore, pd.DataFrame]:
    """The score and the answers that it is the mean of; on locked items alone if that is asked and can be done."""
    rows = frame[frame["split"] == "locked"] if "split" in frame else frame
    split = score.conditions.get("split")
    can_be_locked = to_locked and split == "all" and len(rows) < len(frame)
    averaging = averaging_of(frame, score.metric, score.value) if can_be_locked else None
    if averaging is not None:
        value, stderr = average(rows, score.metric, averaging)
        conditions = {**score.conditions, "split": "locked"}
        known = replace(score, value=value, stderr=stderr, base=None, base_stderr=None, conditions=conditions)
    else:
        rows = rows if split == "locked" else frame
        known = _with_error(score, rows)
    rows = rows.drop(columns="split", errors="ignore").reset_index(drop=True)
    conditions = {**known.conditions, "items": items_digest(rows["item_id"])}
    return replace(known, items=len(rows), conditions=conditions), rows


def _with_error(score: TaskScore, rows: pd.DataFrame) -> TaskScore:
    """With the standard error that its items show, if none was logged."""
    averaging = averaging_of(rows, score.metric, score.value) if score.stderr is None else None
    return score if averaging is None else replace(score, stderr=average(rows, score.metric, averaging)[1])


def _with_base(score: TaskScore, own: pd.DataFrame, base: pd.DataFrame) -> TaskScore:
    """With the base's value on the same items, if none was logged."""
    averaging = averaging_of(own, score.metric, score.value) if score.base is None else None
    if averaging is None:
        return score
    value, stderr = average(base, score.metric, averaging)
    return replace(score, base=value, base_stderr=stderr)


# ---- bases


@dataclass(frozen=True)
class KeptBase:
    """One base's result of one task, as `tracking.base_scores` keeps it."""

    location: SamplesLocation
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    def fits(self, location: SamplesLocation, score: TaskScore) -> bool:
        """Whether this is the base of a run's score, under the same conditions; the items are not checked."""
        mine, kept = self.params, self.location
        same = kept.base_revision == location.base_revision if location.base_revision else kept.base == location.base
        if mine.get("task") != score.task or not same or not _agree(kept.quantization, location.quantization):
            return False
        version, _, settings = mine.get("version", "").partition("+")
        mine = {**mine, "version": version, "settings": settings}
        asked = ("version", "settings", "few_shot", "chat_template", "template", "wording")
        if not all(_agree(mine.get(key), score.conditions.get(key)) for key in asked):
            return False
        own = self.metrics.get(entity_name(f"lm_eval/{score.task}/{score.metric}"))
        # Kept of all items: the base's score that a trial logs is of its dev items.
        on_all = score.base is not None and score.conditions.get("split") not in ("dev", "locked")
        return own is not None and (not on_all or math.isclose(own, score.base or 0.0, rel_tol=1e-9, abs_tol=1e-12))


def _agree(one: str | None, other: str | None) -> bool:
    """Whether two values agree, or one is unknown."""
    return one in (None, "") or other in (None, "") or one == other


def kept_bases(store: Store) -> list[KeptBase]:
    """Every kept result of a base, newest first."""
    place = experiments(store).get(EXPERIMENT)
    runs = search_runs(store, FINISHED, within=[place]) if place is not None else ()
    found = []
    for run in runs:
        tags, uri = run.data.tags, str(run.info.artifact_uri)
        if KEY in tags:
            base, revision = tags.get("tunery.base", ""), tags.get("tunery.base_revision", "")
            quantization = tags.get(HELD_AS)
            location = SamplesLocation(run.info.run_id, uri, "samples", base, revision, quantization)
            found.append(KeptBase(location, run.data.params, metrics_of(run)))
    return found


# ---- energy


def _energy(store: Store, entry: RunEntry) -> dict[str, float]:
    """Joules that the GPUs drew during the run, if MLflow's system metrics hold their power."""
    if "energy_joules" in entry.costs or not entry.power:
        return {}
    joules = 0.0
    for name in entry.power:
        with refusals(store.uri):
            history = store.client.get_metric_history(entry.run_id, name)
        watts = sorted((point.timestamp, point.value) for point in history)  # time in milliseconds
        # The integral of power over time by the trapezoidal rule.
        joules += math.fsum(
            (later - time) / 1000 * (power + then) / 2 for (time, power), (later, then) in itertools.pairwise(watts)
        )
    return {"energy_joules": joules}
