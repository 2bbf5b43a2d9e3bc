"""`tunery train`: one adapter, from rows to a registered version with its scores beside the base's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.fingerprint import flatten
from tunery.config.project import Project, resolved
from tunery.errors import Interrupted, StorageError, StoreAway
from tunery.records.rows import AskedItems
from tunery.records.runs import RunRecord
from tunery.reporting.base_fit import fit_sentences
from tunery.runs.base_answers import base_answers
from tunery.runs.base_fit import base_fit
from tunery.runs.cache import Loaded, Resident, asks_through_chat
from tunery.runs.context import check_held_out, context_of
from tunery.runs.distillation import sentence_on
from tunery.runs.in_context import log_context, preview_context, report_of, score_in_context
from tunery.runs.observer import Observer
from tunery.runs.publish import publish
from tunery.runs.scoring import base_scores, own_scores, parent_scores
from tunery.runs.stages import (
    answers,
    log_inputs,
    log_settings,
    log_trained,
    opened,
    run_record,
    side_by_side,
    train_adapter,
)
from tunery.runs.start import alias_of, begun_with, pinned
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.evaluation.items import Split
    from tunery.tracking.run import Tracker

_LONGEST_NAME = 200
_SCORING_BASE = "scoring the base, unless its scores are stored already"


def train(
    project: Project,
    observer: Observer,
    *,
    tracking_uri: str | None = None,
    run_name: str | None = None,
    resume: str | None = None,
) -> RunRecord:
    """Train one adapter, score it beside its base, and register it.

    Args:
        tracking_uri: MLflow store; by default MLFLOW_TRACKING_URI, else ./mlflow.db.
        run_name: Name of the run in MLflow.
        resume: Id of an interrupted run to resume.

    Returns:
        The run, whole.

    Raises:
        InputError: If the project, data, base, tasks or store cannot be used; before a run is made wherever possible.
        RunStopped: If the run had begun and did not end well; MLflow knows why.
    """
    from tunery.tracking.run import check_resume, open_run
    from tunery.tracking.runlog import START_ALIAS
    from tunery.tracking.store import connect

    check_project(project)
    store = connect(tracking_uri, project.name)
    begun = {} if resume is None else begun_with(check_resume(store, resume, "train", project.name))
    alias, project = alias_of(project), pinned(project, store, begun)
    resident = Resident()
    resident.start(project, store)
    observer.step("reading tasks and data")
    rows = resident.prepare(project, _reported_splits(project))
    check_held_out(project, rows, resident.tokenizer(project))
    name, tags = run_name or readable_name(project), {} if alias is None or resume else {START_ALIAS: alias}
    run = open_run(store, "train", project.name, resume_run_id=resume, run_name=name, tags=tags)
    with opened(run, resume) as (tracker, work):
        observer.step(f"run {tracker.run_id} of {project.name}")
        try:
            checkpoint = work.checkpoint() if resume else None
            if resume and (damage := work.damage()) is not None:
                observer.step(damage)
            if resume and checkpoint is None and project.training.trains:
                observer.step(f"{work.path} holds no checkpoint: training starts again at the first step")
            return _train(project, resident, tracker, observer, work, checkpoint)
        except (Interrupted, StorageError, StoreAway) as stopped:
            stopped.add_note(f"To resume it: the same command with --resume {tracker.run_id}")
            raise
        except KeyboardInterrupt:  # outside of training, and click ends it in a word of its own
            with suppress(OSError):  # a closed terminal takes no more text, and the run must still end as KILLED
                observer.step(f"to resume it: the same command with --resume {tracker.run_id}")
            raise


def readable_name(project: Project) -> str:
    """The project's name, and what was laid over its file: "quickstart: rank=32, seed=1"."""
    from tunery.tracking.redact import redact

    settings = flatten(resolved(project))
    laid = [(key, value) for key, value in settings.items() if _is_below(key, project.overridden)]
    said = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in laid)
    # Before it is cut: --search.storage may have a password.
    return redact(f"{project.name}: {said}")[:_LONGEST_NAME] if said else project.name


def _is_below(key: str, keys: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def _reported_splits(project: Project) -> tuple[Split, ...]:
    """The splits that must have items: a checkpoint chosen by its score on dev items is reported on locked ones."""
    if not project.training.scores_checkpoints:
        return ()
    return ("dev", "locked") if project.training.chooses_by_score else ("dev",)


def _train(
    project: Project,
    resident: Resident,
    tracker: Tracker,
    observer: Observer,
    work: WorkFolder,
    checkpoint: Path | None,
) -> RunRecord:
    from tunery.data.report import table
    from tunery.tracking.provenance import collect

    provenance = collect(project.folder, project.tracking.diff)  # now: files may be changed while it trains
    log_settings(project, tracker)
    start = resident.start(project, tracker.store)
    loaded = resident.load(project, _reported_splits(project), observer, start=start)
    observer.show(table(report_of(loaded)))
    for note in loaded.base.notes:
        observer.step(note)
    log_inputs(loaded, tracker)
    tracker.log_provenance(provenance)

    if loaded.context is not None:
        return _in_context(loaded, tracker, observer)
    fit = base_fit(loaded, tracker)
    for sentence in fit_sentences(fit, project.base.model):
        observer.step(sentence)
    observer.step(_SCORING_BASE)
    before, by_base = base_scores(loaded, tracker.store), base_answers(loaded, tracker)

    with resident.adapted(loaded) as tuned:
        if start is not None:
            observer.step(f"scoring {start.named}, which training begins with, unless its scores are stored already")
        parent = parent_scores(tuned, tracker.store)
        observer.step("training")
        if told := sentence_on(loaded.teacher, loaded.tokenizer):
            observer.step(told)
        trained, _ = train_adapter(tuned, tracker, observer, work, checkpoint)
        logged, _ = log_trained(tuned, trained, tracker)
        observer.step("scoring the tuned model")
        after, tuned_answers = own_scores(tuned), answers(tuned)

    generations = side_by_side(loaded, by_base, tuned_answers)
    split: Split = "locked" if project.training.chooses_by_score else "all"
    record = run_record(tuned, tracker.run_id, before, after, split, trained, generations, parent)
    return publish(project, replace(record, data=loaded.rows.report, fit=fit), generations, logged, tracker, observer)


def _in_context(loaded: Loaded, tracker: Tracker, observer: Observer) -> RunRecord:
    facts = log_context(loaded, tracker)
    observer.step(_SCORING_BASE)
    # Without the context, which is all that the base and the model differ in.
    bare = replace(loaded, context=None)
    before, by_base = base_scores(bare, tracker.store), base_answers(bare, tracker)
    observer.step(f"scoring the base after {len(facts.origins)} solved examples ({facts.tokens:,} tokens)")
    after, _ = score_in_context(loaded, tracker)
    generations = side_by_side(loaded, by_base, answers(loaded))
    record = run_record(loaded, tracker.run_id, before, after, "all", generations=generations)
    record = replace(record, data=report_of(loaded), context=facts)
    return publish(loaded.project, record, generations, None, tracker, observer)


def check_project(project: Project) -> None:
    """The faults that are found before anything is read: in seconds, however large data and base are.

    Raises:
        InputError: If data is missing, the base cannot be loaded, a task is unknown, the device cannot do what is asked
            of it, layers are offloaded, or a package is missing.
    """
    from tunery.data.reading.load import check_sources
    from tunery.estimation.offload import NO_GRADIENT, refuse_offload
    from tunery.evaluation.tasks import check_tasks
    from tunery.models.device import check_device
    from tunery.models.quantize import check_quantization
    from tunery.models.source import check_base
    from tunery.tracking.event_files import check_event_files

    refuse_offload(project, NO_GRADIENT)
    check_event_files(project.training)
    check_sources(project.data, project.folder)
    check_quantization(project.base, check_device(project.training))
    check_base(project.base, project.folder)
    check_tasks(project.evaluation, project.folder)


def preview_rows(project: Project, count: int) -> RenderableType:
    """The first rows as the model sees them: tokens, and which of them are learned; of a context, its examples."""
    from tunery.data.prepare import prepare
    from tunery.data.report import preview
    from tunery.models.base import load_tokenizer

    tokenizer = load_tokenizer(project.base, project.folder, chat=project.data.template == "chat")
    data = prepare(
        project.data, project.training.loss_on, project.folder, tokenizer, AskedItems(), project.training.seed
    )
    context = context_of(project, data)
    if context is not None:
        return preview_context(context, count, asks_through_chat(project), tokenizer)
    teacher = Resident().teacher(project, data)
    return preview(data, tokenizer, count, project.training.loss_on, project.data.template, teacher)
