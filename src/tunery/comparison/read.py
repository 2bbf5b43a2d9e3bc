"""Runs of a store as entries of a comparison: few searches, and nothing is downloaded."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.comparison.conditions import by_one_metric, is_bare, latest, numbers_of, task_scores, with_evaluations
from tunery.comparison.entries import RunEntry, SamplesLocation, TaskScore, Votes
from tunery.comparison.selection import Selection, nothing_found, select
from tunery.comparison.speeds import base_form, known_speeds, speed_runs, with_speeds
from tunery.reporting.text import settings_text
from tunery.tracking.base_scores import HELD_AS
from tunery.tracking.lineage import DATASETS, LINEAGE
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.search import is_tagged, search_runs
from tunery.tracking.store import Store

if TYPE_CHECKING:
    from tunery.tracking.search import Run

COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters", "model_bytes", "energy_joules")
_SEED = "cfg.training.seed"
# What makes one configuration: how and on what it was trained, not on which device, and not what it was asked.
_DECISIVE = ("cfg.base.", "cfg.adapter.", "cfg.data.", "cfg.training.", "input.base", "input.data.", "import.")
# Params by which training.seed draws rows: the digest of the rows that were drawn then differs from seed to seed.
_DRAWN = re.compile(r"cfg\.data\.train\.\d+\.sample\.seed=training|cfg\.training\.method=icl")
# Of a model that was not trained: which it is, and the words that it is asked in.
_OF_BARE = ("cfg.base.", "cfg.data.prompt_template", "import.")
_NOT_DECISIVE = (_SEED, "cfg.base.weights", "cfg.training.device", "cfg.training.tensorboard", "import.seed")


def read(store: Store, selection: Selection) -> tuple[list[RunEntry], list[str]]:
    """The selected runs without their answers, the latest of each configuration, seed and way of asking; and notes.

    Raises:
        InputError: If no run has a score, or something that was named does not exist.
    """
    shared: dict[str, Mapping[str, str]] = {}  # settings by configuration: seeds and repetitions share one
    found = [_entry(run, named, shared) for run, named in select(store, selection)]
    scored = [entry for entry in found if entry.tasks]
    if not scored:
        raise nothing_found(store, selection)
    notes = [] if len(scored) == len(found) else [f"{len(found) - len(scored)} runs have no score and are left out."]
    kept = latest(with_evaluations(by_one_metric(scored)))
    if len(kept) < len(scored):
        notes.append(
            f"Of {len(scored)} runs, the latest of each configuration, seed and way of asking is compared: {len(kept)}."
        )
    votes, timed = _votes(store), speed_runs(store)
    kept = [replace(entry, votes=votes_of(entry, votes)) for entry in kept] if votes else kept
    if timed:
        kept = with_speeds(kept, known_speeds(timed, lambda run: _entry(run, False, shared).configuration))
    return with_names(kept), notes


def _entry(run: Run, named: bool, shared: dict[str, Mapping[str, str]]) -> RunEntry:
    tags, params, numbers = run.data.tags, run.data.params, numbers_of(run)
    bare, is_import = is_bare(run), tags.get("tunery.kind") == "import"
    settings = _decisive(params)
    configuration = _configuration(run, settings)
    tasks, seed = task_scores(run), params.get(_SEED, params.get("import.seed", ""))
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    return RunEntry(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        kind=sys.intern(tags.get("tunery.kind", "")),
        project=sys.intern(tags.get("tunery.project", "")),
        base=sys.intern(tags.get("tunery.base", "")),
        method=sys.intern(tags.get("tunery.method", "")),
        trained_on="" if bare else sys.intern(tags.get(LINEAGE) or tags.get(DATASETS) or _sources_of(params)),
        configuration=configuration,
        seed=int(seed) if not bare and re.fullmatch(r"-?\d+", seed) else None,
        tasks=tasks,
        base_revision=sys.intern(tags.get("tunery.base_revision", params.get("input.base", ""))),
        costs={name: numbers[name] for name in COSTS if name in numbers},
        train_rows=int(numbers["train_rows"]) if "train_rows" in numbers and not bare else None,
        version=tags.get("tunery.registered_version"),
        started_ms=int(run.info.start_time or 0),
        notes=tuple(_notes(run)),
        source=tags.get("tunery.imported_from", "a file") if is_import else "",
        experiment_id=str(run.info.experiment_id),
        locations={task: _location(run, score) for task, score in tasks.items()},
        settings=shared.setdefault(configuration, {key.removeprefix("cfg."): value for key, value in settings.items()}),
        models=tuple(output.model_id for output in outputs),
        base_form=base_form(params),
        evaluated=tags.get(EVALUATED_MODEL, ""),
        named=named,
        power=tuple(name for name in run.data.metrics if name.endswith("power_usage_watts")),
        imported=run if is_import else None,
    )


def _decisive(params: Mapping[str, str]) -> dict[str, str]:
    settings = {key: value for key, value in params.items() if key.startswith(_DECISIVE) and key not in _NOT_DECISIVE}
    if any(_DRAWN.fullmatch(f"{key}={value}") for key, value in settings.items()):
        settings.pop("input.data.train", None)
    return settings


def _sources_of(params: Mapping[str, str]) -> str:
    """The training data of an evaluation, which read the model and not the data."""
    keys = itertools.takewhile(params.__contains__, (f"cfg.data.train.{number}.source" for number in itertools.count()))
    names = ((params[key], params[key].rstrip("/").rpartition("/")[2]) for key in keys)
    return ", ".join(name if "." in source.rpartition("/")[2] else source for source, name in names)


def _location(run: Run, score: TaskScore) -> SamplesLocation:
    tags = run.data.tags
    # A trial is scored on its locked items when the study is over, into a folder of their own.
    apart = score.conditions.get("split") == "locked" and tags.get("tunery.kind") == "trial"
    quantization = run.data.params.get("cfg.base.quantization", run.data.params.get("import.quantization"))
    return SamplesLocation(
        run_id=run.info.run_id,
        artifact_uri=str(run.info.artifact_uri),
        folder="samples/locked" if apart else "samples",
        base=tags.get("tunery.base", ""),
        base_revision=tags.get("tunery.base_revision", run.data.params.get("input.base", "")),
        quantization=tags.get(HELD_AS, quantization),
        is_bare=is_bare(run),
    )


def _configuration(run: Run, settings: Mapping[str, str]) -> str:
    """A name for everything that decides a model except its seed."""
    tags = run.data.tags
    bare = is_bare(run)
    parts = {key: value for key, value in settings.items() if not bare or key.startswith(_OF_BARE)}
    facts = [tags.get(f"tunery.{name}", "") for name in ("base", "base_revision", "method", "datasets")]
    facts += [tags.get("tunery.ref", "") if not bare and tags.get("tunery.kind") in ("evaluation", "speed") else ""]
    # Without settings it is unknown what two runs share.
    facts += [] if parts else [run.info.run_id]
    text = json.dumps([facts, sorted(parts.items())])
    return sys.intern(hashlib.sha256(text.encode()).hexdigest()[:12])


def _notes(run: Run) -> Iterable[str]:
    tags = run.data.tags
    if run.info.status != "FINISHED":
        yield f"the run is {run.info.status}, not FINISHED"
    if "tunery.import_note" in tags:
        yield tags["tunery.import_note"]
    if tags.get("tunery.pruned"):
        yield f"pruned at {tags['tunery.pruned']}"


def votes_of(entry: RunEntry, votes: Mapping[str, Votes]) -> Votes | None:
    """The run's own votes, else those of all of its models together, from `votes` by run and by logged model."""
    if entry.run_id in votes:
        return votes[entry.run_id]
    found = [votes[model] for model in dict.fromkeys(entry.models) if model in votes]
    return Votes.together(found) if found else None


def _votes(store: Store) -> dict[str, Votes]:
    """By logged model and by run; all sessions together."""
    found: dict[str, list[Votes]] = defaultdict(list)
    for run in search_runs(store, is_tagged("tunery.kind", "votes")):
        counts = Votes(*(int(run.data.metrics.get(f"votes/{name}", 0)) for name in ("wins", "ties", "losses")))
        for tag in ("tunery.voted_model", "tunery.voted_run"):
            if run.data.tags.get(tag):
                found[run.data.tags[tag]].append(counts)
    sums = {voted: Votes.together(sessions) for voted, sessions in found.items()}
    return {voted: votes for voted, votes in sums.items() if votes != Votes(0, 0, 0)}


# ---- names

_BY_MLFLOW = re.compile(r"[a-z]+-[a-z]+-\d+")  # bold-bird-123
_MOST_SETTINGS = 4
# Settings that a name leaves out: other columns show them, or a person would not name a run after them.
_SHOWN_ELSEWHERE = re.compile(
    r"base\.(?!quantization)|adapter\.method|data\.(train|validation)|input\.|import\.name|training\.sc"
)


def with_names(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Replace a name that MLflow invented by one that says in which settings the run differs from the others.

    What all of them share, such as the data, is left out: a name would be cut before it differs.
    """
    alike: dict[tuple[str, ...], list[RunEntry]] = defaultdict(list)
    for entry in entries:
        alike[_family(entry)].append(entry)
    differing = {family: _differing([one.settings for one in members]) for family, members in alike.items()}
    several_models = len({_model(one) for one in entries}) > 1
    several_data = len({one.trained_on for one in entries}) > 1
    found = []
    for entry in entries:
        shown = [key for key in differing[_family(entry)] if key in entry.settings][:_MOST_SETTINGS]
        model = _model(entry) if several_models or not shown else ""
        data = f"on {entry.trained_on}" if entry.trained_on and (several_data or not shown) else ""
        settings = settings_text({key: _number(entry.settings[key]) for key in shown})
        name = " ".join(filter(None, [model, data, settings]))
        found.append(replace(entry, name=name) if name and _BY_MLFLOW.fullmatch(entry.name) else entry)
    return found


def _family(entry: RunEntry) -> tuple[str, ...]:
    return entry.project, entry.base, entry.method, entry.trained_on


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values are not the same in all, in the order of the settings."""
    distinct = list({id(one): one for one in settings}.values())  # seeds and repetitions share theirs
    keys = dict.fromkeys(key for one in distinct for key in one if not _SHOWN_ELSEWHERE.match(key))
    return [key for key in keys if len({one.get(key) for one in distinct}) > 1]


def _model(entry: RunEntry) -> str:
    return entry.method if entry.method not in ("", "none") else entry.base


def _number(text: str) -> object:
    """A float as a number, so that it is shown as people write it."""
    try:
        return float(text) if any(sign in text for sign in ".e") else text
    except ValueError:
        return text
