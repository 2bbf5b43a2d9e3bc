"""`tunery train`: one adapter, from rows to a registered version with its scores beside the base's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.errors import Fault, Interrupted, TaskError
from tunery.pipeline import scoring
from tunery.pipeline.inputs import input_digests
from tunery.pipeline.publish import publish
from tunery.pipeline.watch import Watch
from tunery.pipeline.work import WorkFolder
from tunery.records import Generation, Message, PreparedData, RunRecord, StepMetrics, TaskResult, Trained

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.adapter import Attached
    from tunery.models.base import LoadedBase
    from tunery.tracking.run import Tracker


def train_run(
    project: Project,
    watch: Watch,
    *,
    tracking_uri: str | None = None,
    run_name: str | None = None,
    resume: str | None = None,
) -> RunRecord:
    """Train one adapter, score it beside its base, and register it.

    Args:
        project: What to do.
        watch: Told what a person would want to see.
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
        watch.step(f"run {tracker.run_id} of {project.name}")
        try:
            record = _train(project, watch, tracker, work, _going_on(work, watch) if resume else None)
        except (Interrupted, KeyboardInterrupt) as stopped:
            _tell_how_to_go_on(watch, tracker.run_id, str(stopped) or "interrupted")
            raise
    work.remove()
    return record


def _tell_how_to_go_on(watch: Watch, run_id: str, reason: str) -> None:
    with suppress(OSError):  # a terminal that was closed takes no words; the run must still end as KILLED
        watch.step(f"run {run_id}: {reason}")
        watch.step(f"to go on: the same command with --resume {run_id}")


def _going_on(work: WorkFolder, watch: Watch) -> Path | None:
    found = work.checkpoint()
    if found is None:
        watch.step(f"{work.path} holds no checkpoint: training starts at the first step again")
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


def _train(project: Project, watch: Watch, tracker: Tracker, work: WorkFolder, checkpoint: Path | None) -> RunRecord:
    tracker.log_config(resolved(project), fingerprint(project))
    tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})
    watch.step(f"loading {project.base.model} ({project.base.quantization})")
    base = _load_base(project)
    tasks = _load_tasks(project)
    _require_split_items(project, tasks)
    data = _prepare(project, base, tasks, watch)
    tracker.log_inputs(input_digests(base, tasks, data))
    tracker.accept_resume()
    tracker.log_dataset(data.report)

    watch.step("scores of the base: looked up, or computed once")
    before = _ask(
        project,
        base,
        base.model,
        tasks,
        data,
        lambda: scoring.base_results(tracker.store, base, tasks, project.evaluation),
    )

    watch.step("training")
    attached = _attach(project, base)
    trained = _fit(project, base, attached, tasks, data, tracker, watch, work, checkpoint)
    logged = _log_adapter(project, base, trained, tracker)

    watch.step("scoring the tuned model")
    after = _ask(project, base, attached.model, tasks, data, lambda: _score(project, base, attached, tasks))
    record = _record(project, base, attached, tasks, data, trained, before, after, tracker)
    return publish(project, record, _generations(project, data, before, after), logged, tracker, watch)


@dataclass(frozen=True)
class _Asked:
    """What a model answered: task results, written answers and their metrics."""

    results: Mapping[str, TaskResult]
    written: Sequence[str]
    text: Mapping[str, float]


def _load_base(project: Project) -> LoadedBase:
    from tunery.models.base import load_base

    return load_base(project.base, project.folder, project.training.device, chat=project.data.template == "chat")


def _load_tasks(project: Project) -> Tasks:
    from tunery.evaluation.tasks import load_tasks

    return load_tasks(project.evaluation, project.folder, scoring.asks_through_chat(project))


def _prepare(project: Project, base: LoadedBase, tasks: Tasks, watch: Watch) -> PreparedData:
    from tunery.data.prepare import prepare
    from tunery.data.report import table

    watch.step("reading data")
    loss_on, seed = project.training.loss_on, project.training.seed
    data = prepare(project.data, loss_on, project.folder, base.tokenizer, tasks.texts(), seed)
    watch.show(table(data.report))
    for note in base.notes:
        watch.step(note)
    return data


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


def _attach(project: Project, base: LoadedBase) -> Attached:
    from tunery.models.adapter import attach_adapter

    return attach_adapter(base, project.adapter, project.training.seed)


def _fit(
    project: Project,
    base: LoadedBase,
    attached: Attached,
    tasks: Tasks,
    data: PreparedData,
    tracker: Tracker,
    watch: Watch,
    work: WorkFolder,
    checkpoint: Path | None,
) -> Trained:
    from tunery.training.fit import earlier_steps, fit

    steps = _planned_steps(project, len(data.train))
    for earlier in earlier_steps(checkpoint) if checkpoint else ():
        tracker.log_step(earlier)  # which leaves out what the run holds already

    def report(metrics: StepMetrics) -> None:
        tracker.log_step(metrics)
        with suppress(OSError):  # a terminal that was closed must not cost the checkpoint that SIGHUP asks for
            watch.training(metrics, steps)

    try:
        return fit(
            attached.model,
            base.tokenizer,
            data,
            project.training,
            max_length=project.data.max_length,
            out=work.path,
            report=report,
            score=_checkpoint_score(project, base, attached, tasks),
            resume_from=checkpoint,
        )
    finally:
        with suppress(OSError):
            watch.end_training()


def _planned_steps(project: Project, rows: int) -> int:
    """Optimizer steps, for the progress line; packing makes fewer."""
    training = project.training
    batch = training.micro_batch_size * training.gradient_accumulation_steps
    return training.max_steps or math.ceil(math.ceil(rows / batch) * training.epochs)


def _scores_checkpoints(project: Project) -> bool:
    return project.training.score_checkpoints or project.training.keep_best_by == "score"


def _require_split_items(project: Project, tasks: Tasks) -> None:
    """Refuse a split that leaves nothing to choose a checkpoint on, or nothing to report on afterwards.

    Raises:
        TaskError: With every task that counts towards the score and has no dev, or no locked, item.
    """
    if not _scores_checkpoints(project):
        return
    fraction = project.evaluation.dev_fraction
    splits: tuple[Split, ...] = ("dev", "locked") if project.training.keep_best_by == "score" else ("dev",)
    faults = [
        _no_items(name, split, fraction)
        for name in scoring.primary_metrics(tasks, project.evaluation)
        for split in splits
        if not any(tasks.leaves[leaf].chosen(split, 1, fraction) for leaf in tasks.members.get(name, (name,)))
    ]
    if faults:
        raise TaskError("evaluation", faults)


def _no_items(task: str, split: Split, dev_fraction: float) -> Fault:
    rule = f"one that leaves {task} a {split} item while checkpoints are scored"
    change = "Raise" if split == "dev" else "Lower"
    return Fault("evaluation.dev_fraction", rule, dev_fraction, f"{change} it, or raise evaluation.limit.")


def _checkpoint_score(
    project: Project, base: LoadedBase, attached: Attached, tasks: Tasks
) -> Callable[[], float] | None:
    """Scores a checkpoint on dev items, where the project wants it."""
    from tunery.evaluation.result import headline
    from tunery.evaluation.score import score_model

    if not _scores_checkpoints(project):
        return None

    def score() -> float:
        results = score_model(attached.model, base.tokenizer, tasks, project.evaluation, split="dev")
        value = headline(results, project.evaluation)
        return math.nan if value is None else value

    return score


def _score(project: Project, base: LoadedBase, attached: Attached, tasks: Tasks) -> dict[str, TaskResult]:
    from tunery.evaluation.score import score_model

    return score_model(attached.model, base.tokenizer, tasks, project.evaluation)


def _log_adapter(project: Project, base: LoadedBase, trained: Trained, tracker: Tracker) -> Any:
    """Before anything else can fail: the adapter is what the GPU hours bought."""
    from tunery.tracking.adapters import log_adapter

    return log_adapter(
        tracker,
        trained.folder,
        base=project.base,
        identity=base.identity,
        tokenizer=base.tokenizer,
        project_folder=project.folder,
        method=project.adapter.method,
        template=project.data.template,
        max_new_tokens=project.evaluation.generation.max_new_tokens,
        step=trained.kept_step,
    )


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
    return RunRecord(
        run_id=tracker.run_id,
        project=project.name,
        identity=base.identity,
        adapter=attached.facts,
        data=data.report,
        trained=trained,
        base=before.results,
        tuned=after.results,
        asked={name: tasks.primary[name] for name in tasks.names},
        primary=scoring.primary_metrics(tasks, project.evaluation),
        split="locked" if project.training.keep_best_by == "score" else "all",
        base_text=before.text,
        tuned_text=after.text,
        notes=base.notes,
    )


def _generations(project: Project, data: PreparedData, before: _Asked, after: _Asked) -> list[Generation]:
    prompts, references = _prompts(project, data)
    return scoring.side_by_side(prompts, references, before.written, after.written)
