"""The middle of a run, alone or in a search: an adapter is attached, trained, measured at checkpoints and logged."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.errors import Fault, TaskError
from tunery.pipeline import scoring
from tunery.pipeline.watch import Watch
from tunery.pipeline.work import WorkFolder
from tunery.records import PreparedData, Report, StepMetrics, Trained

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.adapter import Attached
    from tunery.models.base import LoadedBase
    from tunery.tracking.adapters import LoggedAdapter
    from tunery.tracking.run import Tracker


def attach(project: Project, base: LoadedBase) -> Attached:
    """Put the project's adapter on the base."""
    from tunery.models.adapter import attach_adapter

    return attach_adapter(base, project.adapter, project.training.seed)


def train_adapter(
    project: Project,
    base: LoadedBase,
    attached: Attached,
    tasks: Tasks,
    data: PreparedData,
    tracker: Tracker,
    watch: Watch,
    work: WorkFolder,
    checkpoint: Path | None,
    also: Report | None = None,
) -> Trained:
    """Optimise what is attached, with curves to MLflow and to whoever watches.

    Args:
        work: Where checkpoints go.
        checkpoint: To go on from, if any.
        also: Told each step's metrics too; may raise to end the training.
    """
    from tunery.training.fit import earlier_steps, fit

    steps = _planned_steps(project, len(data.train))
    for earlier in earlier_steps(checkpoint) if checkpoint else ():
        tracker.log_step(earlier)  # which leaves out what the run holds already

    def report(metrics: StepMetrics) -> None:
        tracker.log_step(metrics)
        with suppress(OSError):  # a terminal that was closed must not cost the checkpoint that SIGHUP asks for
            watch.training(metrics, steps)
        if also is not None:
            also(metrics)

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


def scores_checkpoints(project: Project) -> bool:
    """Whether checkpoints are scored on dev items."""
    return project.training.score_checkpoints or project.training.keep_best_by == "score"


def require_split_items(project: Project, tasks: Tasks) -> None:
    """Refuse a split that leaves nothing to choose a checkpoint on, or nothing to report on afterwards.

    Raises:
        TaskError: With every task that counts towards the score and has no dev, or no locked, item.
    """
    if not scores_checkpoints(project):
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

    if not scores_checkpoints(project):
        return None

    def score() -> float:
        results = score_model(attached.model, base.tokenizer, tasks, project.evaluation, split="dev")
        value = headline(results, project.evaluation)
        return math.nan if value is None else value

    return score


def log_trained(project: Project, base: LoadedBase, trained: Trained, tracker: Tracker) -> LoggedAdapter:
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


def run_costs(trained: Trained, attached: Attached) -> dict[str, float]:
    """What a run took: seconds, bytes of memory at most, bytes of weights, trainable parameters."""
    return {
        "train_seconds": trained.train_seconds,
        "peak_memory_bytes": float(trained.peak_memory_bytes),
        "model_bytes": float(_weight_bytes(trained.folder)),
        "trainable_parameters": float(attached.facts.trainable_parameters),
    }


def _weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
