"""`tunery train`: one adapter, from rows to a registered version with its scores beside the base's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.errors import Interrupted
from tunery.records import Generation, Message, PreparedData, RunRecord, TaskResult, Trained
from tunery.runs import scoring
from tunery.runs.cache import Resident
from tunery.runs.inputs import input_digests
from tunery.runs.observer import Observer
from tunery.runs.publish import publish
from tunery.runs.stages import (
    attach,
    log_trained,
    needed_splits,
    require_split_items,
    run_costs,
    run_record,
    train_adapter,
)
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.evaluation.tasks import Tasks
    from tunery.models.adapter import Attached
    from tunery.models.base import LoadedBase
    from tunery.tracking.run import Tracker


def train_run(
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
        observer: Told what a person would want to see.
        tracking_uri: MLflow store; by default MLFLOW_TRACKING_URI, else ./mlflow.db.
        run_name: Name of the run in MLflow.
        resume: Id of an interrupted run to go on with.

    Returns:
        The run, whole.

    Raises:
        InputError: If the project, data, base, tasks or store cannot be used; before a run is made wherever possible.
        RunStopped: If the run had begun and did not end well; MLflow knows why.
    """
    from tunery.tracking.run import check_resume, open_run
    from tunery.tracking.store import connect

    check(project)
    store = connect(tracking_uri, project.name)
    if resume is not None:
        check_resume(store, resume, "train", project.name)
    # A resumed run is held before MLflow hears of it: it may be alive in another process.
    with (
        WorkFolder.of(resume).held() if resume else nullcontext(),
        open_run(store, "train", project.name, resume_run_id=resume, run_name=run_name) as tracker,
        WorkFolder.of(tracker.run_id).held(),
    ):
        work = WorkFolder.of(tracker.run_id)
        observer.step(f"run {tracker.run_id} of {project.name}")
        try:
            record = _train(project, observer, tracker, work, _going_on(work, observer) if resume else None)
        except (Interrupted, KeyboardInterrupt) as stopped:
            _tell_how_to_go_on(observer, tracker.run_id, str(stopped) or "interrupted")
            raise
    work.remove()
    return record


def _tell_how_to_go_on(observer: Observer, run_id: str, reason: str) -> None:
    with suppress(OSError):  # a terminal that was closed takes no words; the run must still end as KILLED
        observer.step(f"run {run_id}: {reason}")
        observer.step(f"to go on: the same command with --resume {run_id}")


def _going_on(work: WorkFolder, observer: Observer) -> Path | None:
    found = work.checkpoint()
    if found is None:
        observer.step(f"{work.path} holds no checkpoint: training starts at the first step again")
    return found


def check(project: Project) -> None:
    """All that can be found wrong without loading a model or making a run.

    Raises:
        InputError: Data that is not there, a base that cannot be loaded, a task that nobody knows.
    """
    from tunery.data.prepare import check_sources
    from tunery.evaluation.tasks import check_tasks
    from tunery.models.base import check_base

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


def _train(
    project: Project, observer: Observer, tracker: Tracker, work: WorkFolder, checkpoint: Path | None
) -> RunRecord:
    tracker.log_config(resolved(project), fingerprint(project))
    tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})
    observer.step(f"loading {project.base.model} ({project.base.quantization})")
    resident = Resident()
    base, tasks = resident.base(project), resident.tasks(project)
    require_split_items(project, tasks, needed_splits(project))
    observer.step("reading data")
    data = resident.rows(project, base.tokenizer, tasks)
    tell_data(data, base, observer)
    tracker.log_inputs(input_digests(base, tasks, data))
    tracker.accept_resume()
    tracker.log_dataset(data.report)

    observer.step("scores of the base: looked up, or computed once")
    before = _ask(
        project,
        base,
        base.model,
        tasks,
        data,
        lambda: scoring.base_results(tracker.store, base, tasks, project.evaluation),
    )

    observer.step("training")
    attached = attach(project, base)
    trained, _ = train_adapter(project, base, attached, tasks, data, tracker, observer, work, checkpoint)
    logged = log_trained(project, base, trained, tracker)
    tracker.log_metrics(run_costs(trained, attached), model_id=logged.model_id)

    observer.step("scoring the tuned model")
    after = _ask(project, base, attached.model, tasks, data, lambda: _score(project, base, attached, tasks))
    record = _record(project, base, attached, tasks, data, trained, before, after, tracker)
    return publish(project, record, _generations(project, data, before, after), logged, tracker, observer)


def tell_data(data: PreparedData, base: LoadedBase, observer: Observer) -> None:
    """What became of the rows, and what a person should know of the base."""
    from tunery.data.report import table

    observer.show(table(data.report))
    for note in base.notes:
        observer.step(note)


@dataclass(frozen=True)
class _Asked:
    """What a model answered: task results, written answers and their metrics."""

    results: Mapping[str, TaskResult]
    written: Sequence[str]
    text: Mapping[str, float]


def _ask(
    project: Project,
    base: LoadedBase,
    model: Any,
    tasks: Tasks,
    data: PreparedData,
    score: Callable[[], dict[str, TaskResult]],
) -> _Asked:
    from tunery.evaluation.text_metrics import text_metrics

    prompts, references = _prompts(project, data)
    results = score()
    written = scoring.answers(model, base.tokenizer, prompts, project.data.template, project.evaluation)
    return _Asked(results, written, text_metrics(written, references))


def _prompts(project: Project, data: PreparedData) -> tuple[list[tuple[Message, ...]], list[str]]:
    return scoring.held_out_prompts(data.validation_conversations, project.evaluation.generation.prompts)


def _score(project: Project, base: LoadedBase, attached: Attached, tasks: Tasks) -> dict[str, TaskResult]:
    from tunery.evaluation.score import score_model

    return score_model(attached.model, base.tokenizer, tasks, project.evaluation)


def _record(
    project: Project,
    base: LoadedBase,
    attached: Attached,
    tasks: Tasks,
    data: PreparedData,
    trained: Trained,
    before: _Asked,
    after: _Asked,
    tracker: Tracker,
) -> RunRecord:
    split = "locked" if project.training.keep_best_by == "score" else "all"
    scored = run_record(
        project, base, attached, tasks, trained, before.results, after.results, tracker.run_id, split=split
    )
    return replace(scored, data=data.report, base_text=before.text, tuned_text=after.text)


def _generations(project: Project, data: PreparedData, before: _Asked, after: _Asked) -> list[Generation]:
    prompts, references = _prompts(project, data)
    return scoring.side_by_side(prompts, references, before.written, after.written)
