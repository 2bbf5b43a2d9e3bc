"""`tunery evaluate`: score any model beside its base."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.config.fingerprint import fingerprint
from tunery.config.load import load_project
from tunery.config.project import resolved
from tunery.records.runs import RunRecord
from tunery.runs.cache import Loaded, Resident
from tunery.runs.observer import Observer
from tunery.runs.publish import finish, log_plots, log_scores, tell_where
from tunery.runs.resolve_model import EvaluatedModel, load_evaluated_model
from tunery.runs.scoring import base_scores, own_scores
from tunery.runs.stages import run_record

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker


def evaluate(
    ref: str,
    project: str | None,
    overrides: Sequence[tuple[str, str]],
    observer: Observer,
    *,
    tracking_uri: str | None = None,
    run_name: str | None = None,
) -> RunRecord:
    """Score the model that a reference leads to, and its base if it has one, as a run of kind `evaluation`.

    Args:
        ref: models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.
        project: Folder of a project whose settings are used; by default those that the model was trained with.
        overrides: Pairs of config key and YAML value.

    Raises:
        InputError: If the reference, the settings or the tasks cannot be used.
    """
    from tunery.runs.report.tables import run_table
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run
    from tunery.tracking.store import connect

    store = connect(tracking_uri, "evaluation" if project is None else load_project(project, overrides).name)
    observer.step(f"loading {ref}")
    resident = Resident()
    found = load_evaluated_model(ref, project, overrides, store, resident)
    for note in found.notes:
        observer.step(note)
    tasks = resident.tasks(found.project)
    loaded = Loaded(found.project, found.base, tasks, found.model, own_tokenizer=found.tokenizer)
    # In the experiment of the run that trained the model: a project's experiment holds all that is known of its models.
    store = replace(store, experiment=found.project.name)
    with open_run(store, "evaluation", found.project.name, run_name=run_name or f"evaluate {ref}") as tracker:
        observer.step(f"run {tracker.run_id}: scoring on {', '.join(loaded.tasks.names)}")
        tracker.log_provenance(collect(found.project.folder, found.project.tracking.diff))
        before = base_scores(loaded, store)
        after = own_scores(loaded) if found.adapted else {}
        record = run_record(loaded, tracker.run_id, before, after, found.split)
        record = replace(record, model_version=found.version, notes=(*record.notes, *found.notes))
        _log(record, found, ref, tracker)
        observer.show(run_table(record))
    tell_where(tracker, observer)
    observer.step(f"next: tunery compare --project {shlex.quote(found.project.name)}")
    return record


def _log(record: RunRecord, found: EvaluatedModel, ref: str, tracker: Tracker) -> None:
    from tunery.tracking.base_scores import HELD_AS, held_as
    from tunery.tracking.lineage import LINEAGE, lineage
    from tunery.tracking.run import EVALUATED_MODEL

    project = found.project
    tracker.log_config(resolved(project), fingerprint(project))
    # A bare model was not trained here: the adapter section of its settings does not describe it.
    tracker.tag(**{"tunery.ref": ref}, **({} if found.adapted else {"tunery.method": "none"}))
    if found.base.offloaded:
        tracker.tag(**{HELD_AS: held_as(found.base.identity)})
    if found.model_id is not None:
        tracker.tag(**{EVALUATED_MODEL: found.model_id})
    if project.adapter.start is not None:  # its settings name the last data alone
        tracker.tag(**{LINEAGE: lineage(tracker.store, found.run_id)})
    log_scores(project, record, tracker, found.model_id)
    log_plots(record, tracker)
    finish(record, tracker)
