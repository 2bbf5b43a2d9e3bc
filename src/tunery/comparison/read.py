"""Runs of a store as entries of a comparison: few searches, and nothing downloaded."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.comparison.conditions import is_bare, metrics_of, task_scores
from tunery.comparison.deduplicate import by_one_metric, by_true_names, latest, with_evaluations
from tunery.comparison.entries import Entry, RunEntries, RunEntry, SamplesLocation, TaskScore, Votes
from tunery.comparison.selection import Selection, experiments, nothing_found, search, select
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
_SEED = "cfg.training.seed"
# What makes one configuration: how it is told to what it is told on. Not where it runs, and not what it is asked.
_DECISIVE = ("cfg.base.", "cfg.adapter.", "cfg.data.", "cfg.training.", "input.base", "input.data.", "import.")
_NOT_DECISIVE = (_SEED, "cfg.training.device", "import.seed")


def read(store: Store, selection: Selection) -> RunEntries:
    """Read the runs that are meant.

    Args:
        store: Where.
        selection: Which.

    Raises:
        InputError: If none has a score, or something that was named is not there.
    """
    shared: dict[str, Mapping[str, str]] = {}  # settings by configuration: seeds and repetitions share one
    found = [_reading(run, named, shared) for run, named in select(store, selection)]
    scored = [one for one in found if one.entry.tasks]
    if not scored:
        raise nothing_found(store, selection)
    notes = [] if len(scored) == len(found) else [f"{len(found) - len(scored)} runs have no score, and are left out."]
    kept = latest(with_evaluations(by_one_metric(by_true_names(scored))))
    if len(kept) < len(scored):
        notes.append(
            f"Of {len(scored)} runs, the latest of each configuration, seed and way of asking is compared: {len(kept)}."
        )
    return RunEntries(tuple(with_votes(store, kept)), len(found), tuple(notes))


def _reading(run: Run, named: bool, shared: dict[str, Mapping[str, str]]) -> RunEntry:
    tags, params = run.data.tags, run.data.params
    tasks = task_scores(run)
    settings = {key: value for key, value in params.items() if key.startswith(_DECISIVE) and key not in _NOT_DECISIVE}
    configuration = _configuration(run, settings)
    kept = shared.setdefault(configuration, {key.removeprefix("cfg."): value for key, value in settings.items()})
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    return RunEntry(
        entry=_entry(run, tasks, configuration),
        sources={task: _source(run, score) for task, score in tasks.items()},
        settings=kept,
        experiment_id=str(run.info.experiment_id),
        models=tuple(output.model_id for output in outputs),
        evaluated=tags.get(EVALUATED_MODEL, ""),
        named=named,
        power=tuple(name for name in run.data.metrics if name.endswith("power_usage_watts")),
        imported=run if tags.get("tunery.kind") == "import" else None,
    )


def _entry(run: Run, tasks: Mapping[str, TaskScore], configuration: str) -> Entry:
    tags, params, metrics = run.data.tags, run.data.params, metrics_of(run)
    bare = is_bare(run)
    return Entry(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        kind=sys.intern(tags.get("tunery.kind", "")),
        project=sys.intern(tags.get("tunery.project", "")),
        base=sys.intern(tags.get("tunery.base", "")),
        method=sys.intern(tags.get("tunery.method", "")),
        trained_on="" if bare else sys.intern(tags.get("tunery.datasets", "") or _sources_of(params)),
        configuration=configuration,
        seed=None if bare else _whole(params.get(_SEED, params.get("import.seed"))),
        tasks=tasks,
        base_revision=sys.intern(tags.get("tunery.base_revision", params.get("input.base", ""))),
        costs={name: metrics[name] for name in COSTS if name in metrics},
        train_rows=None if bare else _rows(run),
        version=tags.get("tunery.registered_version"),
        started_ms=int(run.info.start_time or 0),
        notes=tuple(_notes(run)),
    )


def _sources_of(params: Mapping[str, str]) -> str:
    """The training data of an evaluation, which read the model and not the data."""
    named = (params.get(f"cfg.data.train.{number}.source") for number in range(len(params)))
    found = []
    for source in named:
        if source is None:
            break
        found.append(source.rstrip("/").rpartition("/")[2] if "." in source.rpartition("/")[2] else source)
    return ", ".join(found)


def _source(run: Run, score: TaskScore) -> SamplesLocation:
    tags = run.data.tags
    locked = score.conditions.get("split") == "locked"
    # A trial is scored on its locked items when the study is over, into a folder of their own.
    apart = locked and tags.get("tunery.kind") == "trial"
    return SamplesLocation(
        run_id=run.info.run_id,
        artifact_uri=str(run.info.artifact_uri),
        folder="samples/locked" if apart else "samples",
        base=tags.get("tunery.base", ""),
        base_revision=tags.get("tunery.base_revision", run.data.params.get("input.base", "")),
        quantization=run.data.params.get("cfg.base.quantization", run.data.params.get("import.quantization")),
        is_bare=is_bare(run),
    )


def _configuration(run: Run, settings: Mapping[str, str]) -> str:
    """A name for all that decides a model but its seed."""
    tags = run.data.tags
    bare = is_bare(run)
    parts = {key: value for key, value in settings.items() if not bare or key.startswith(("cfg.base.", "import."))}
    facts = [tags.get(f"tunery.{name}", "") for name in ("base", "base_revision", "method", "datasets")]
    facts += [tags.get("tunery.ref", "") if not bare and tags.get("tunery.kind") == "evaluation" else ""]
    # Without settings nobody knows what two runs share.
    facts += [] if parts else [run.info.run_id]
    text = json.dumps([facts, sorted(parts.items())])
    return sys.intern(hashlib.sha256(text.encode()).hexdigest()[:12])


def _rows(run: Run) -> int | None:
    """Rows that were trained on; of an older run those that its sources gave."""
    if "train_rows" in run.data.metrics:
        return int(run.data.metrics["train_rows"])
    kept = [
        json.loads(one.dataset.profile or "{}").get("rows_kept", 0)
        for one in (run.inputs.dataset_inputs if run.inputs is not None else [])
        if any(tag.key == "mlflow.data.context" and tag.value == "training" for tag in one.tags)
    ]
    return sum(kept) or None


def _notes(run: Run) -> Iterable[str]:
    if run.info.status != "FINISHED":
        yield f"the run is {run.info.status}, not FINISHED"
    if run.data.tags.get("tunery.kind") == "import":
        yield f"imported from {run.data.tags.get('tunery.imported_from', 'a file')}"
        if "tunery.import_note" in run.data.tags:
            yield run.data.tags["tunery.import_note"]
    if run.data.tags.get("tunery.pruned"):
        yield f"pruned at {run.data.tags['tunery.pruned']}"


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def with_votes(store: Store, readings: Sequence[RunEntry]) -> list[RunEntry]:
    """The same readings with the choices that people made."""
    votes = _votes(store)
    if not votes:
        return list(readings)
    return [replace(one, entry=replace(one.entry, votes=_votes_of(one, votes))) for one in readings]


def _votes_of(reading: RunEntry, votes: Mapping[str, Votes]) -> Votes | None:
    """The run's own; where it has none, those of all models of its row."""
    if reading.entry.run_id in votes:
        return votes[reading.entry.run_id]
    found = [votes[model] for model in dict.fromkeys(reading.models) if model in votes]
    if not found:
        return None
    return Votes(sum(one.wins for one in found), sum(one.ties for one in found), sum(one.losses for one in found))


def _votes(store: Store) -> dict[str, Votes]:
    """Choices between a model and its base, by logged model and by run; all sessions together."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for run in search(store, list(experiments(store).values()), ["tags.`tunery.kind` = 'votes'"]):
        for about in (run.data.tags.get("tunery.voted_model"), run.data.tags.get("tunery.voted_run")):
            for place, name in enumerate(("wins", "ties", "losses") if about else ()):
                counts[str(about)][place] += run.data.metrics.get(f"votes/{name}", 0.0)
    return {about: Votes(*(int(number) for number in numbers)) for about, numbers in counts.items() if any(numbers)}
