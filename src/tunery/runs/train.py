"""`tunery train`: one adapter, from rows to a registered version with its scores beside the base's own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.errors import Interrupted
from tunery.records import RunRecord
from tunery.runs.cache import Loaded, Resident
from tunery.runs.observer import Observer
from tunery.runs.publish import publish
from tunery.runs.stages import (
    answers,
    base_scores,
    log_inputs,
    log_settings,
    log_trained,
    opened,
    own_scores,
    run_record,
    side_by_side,
    train_adapter,
)
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.evaluation.items import Split
    from tunery.tracking.run import Tracker


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
        project: What to do.
        observer: Shown the progress.
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
    from tunery.tracking.store import connect

    check_project(project)
    store = connect(tracking_uri, project.name)
    if resume is not None:
        check_resume(store, resume, "train", project.name)
    run = open_run(store, "train", project.name, resume_run_id=resume, run_name=run_name)
    with opened(run, resume) as (tracker, work):
        observer.step(f"run {tracker.run_id} of {project.name}")
        try:
            return _train(project, tracker, observer, work, _resumed_from(work, observer) if resume else None)
        except (Interrupted, KeyboardInterrupt) as stopped:
            _show_how_to_resume(observer, tracker.run_id, str(stopped) or "interrupted")
            raise


def _train(
    project: Project, tracker: Tracker, observer: Observer, work: WorkFolder, checkpoint: Path | None
) -> RunRecord:
    log_settings(project, tracker)
    resident = Resident()
    loaded = resident.load(project, _needed_splits(project), observer)
    _show_data(loaded, observer)
    log_inputs(loaded, tracker)

    observer.step("scoring the base, unless its scores are stored already")
    before, base_answers = base_scores(loaded, tracker.store), answers(loaded)

    observer.step("training")
    with resident.adapted(loaded) as tuned:
        trained, _ = train_adapter(tuned, tracker, observer, work, checkpoint)
        logged, _ = log_trained(tuned, trained, tracker)
        observer.step("scoring the tuned model")
        after, tuned_answers = own_scores(tuned), answers(tuned)

    # A checkpoint that was chosen by its score on dev items leaves the locked ones to report by.
    split: Split = "locked" if project.training.keep_best_by == "score" else "all"
    generations = side_by_side(loaded, base_answers, tuned_answers)
    record = run_record(tuned, tracker.run_id, before, after, split, trained, generations)
    return publish(project, replace(record, data=loaded.rows.report), generations, logged, tracker, observer)


def check_project(project: Project) -> None:
    """All faults that can be found without loading a model or making a run.

    Raises:
        InputError: If data is missing, the base cannot be loaded, or a task is unknown.
    """
    from tunery.data.load import check_sources
    from tunery.evaluation.tasks import check_tasks
    from tunery.models.source import check_base

    check_sources(project.data, project.folder)
    check_base(project.base, project.folder)
    check_tasks(project.evaluation, project.folder)


def preview_rows(project: Project, count: int) -> RenderableType:
    """The first rows as the model sees them: tokens, and which of them are learned."""
    from tunery.data.prepare import prepare
    from tunery.data.report import preview
    from tunery.models.base import load_tokenizer

    tokenizer = load_tokenizer(project.base, project.folder, chat=project.data.template == "chat")
    data = prepare(project.data, project.training.loss_on, project.folder, tokenizer, {}, project.training.seed)
    return preview(data, tokenizer, count)


def _needed_splits(project: Project) -> tuple[Split, ...]:
    """The splits that need items: one to choose a checkpoint by and, if it is chosen by score, one to report by."""
    if project.training.keep_best_by == "score":
        return ("dev", "locked")
    return ("dev",) if project.training.scores_checkpoints else ()


def _show_data(loaded: Loaded, observer: Observer) -> None:
    from tunery.data.report import table

    observer.show(table(loaded.rows.report))
    for note in loaded.base.notes:
        observer.step(note)


def _resumed_from(work: WorkFolder, observer: Observer) -> Path | None:
    found = work.checkpoint()
    if found is None:
        observer.step(f"{work.path} holds no checkpoint: training starts again at the first step")
    return found


def _show_how_to_resume(observer: Observer, run_id: str, reason: str) -> None:
    with suppress(OSError):  # a closed terminal takes no more text, and the run must still end as KILLED
        observer.step(f"run {run_id}: {reason}")
        observer.step(f"to resume it: the same command with --resume {run_id}")
