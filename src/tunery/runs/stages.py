"""The middle of a run, alone or in a search: an adapter is attached, trained, measured at checkpoints and logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.errors import Fault, TaskError
from tunery.records import PreparedData, Report, RunRecord, StepMetrics, TaskResult, Trained
from tunery.runs import scoring
from tunery.runs.observer import Observer
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.adapter import Attached
    from tunery.models.base import LoadedBase
    from tunery.tracking.flavor.adapters import LoggedAdapter
    from tunery.tracking.run import Tracker

Results = Mapping[str, TaskResult]


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
    observer: Observer,
    work: WorkFolder,
    checkpoint: Path | None,
    also: Report | None = None,
) -> tuple[Trained, Results | None]:
    """Optimise what is attached, with curves to MLflow and to whoever watches.

    Args:
        work: Where checkpoints go.
        checkpoint: To go on from, if any.
        also: Told each step's metrics too; may raise to end the training.

    Returns:
        What was trained, and its results on dev items where they were measured at its checkpoint.
    """
    from tunery.training.fit import earlier_steps, fit

    steps = _planned_steps(project, len(data.train))
    for earlier in earlier_steps(checkpoint) if checkpoint else ():
        tracker.log_step(earlier)  # which leaves out what the run holds already

    def report(metrics: StepMetrics) -> None:
        tracker.log_step(metrics)
        with suppress(OSError):  # a terminal that was closed must not cost the checkpoint that SIGHUP asks for
            observer.training(metrics, steps)
        if also is not None:
            also(metrics)

    scores = _CheckpointScores(project, base, attached, tasks) if scores_checkpoints(project) else None
    try:
        trained = fit(
            attached.model,
            base.tokenizer,
            data,
            project.training,
            max_length=project.data.max_length,
            out=work.path,
            report=report,
            score=scores,
            resume_from=checkpoint,
        )
    finally:
        with suppress(OSError):
            observer.end_training()
    return trained, scores.of_kept(trained) if scores is not None else None


def _planned_steps(project: Project, rows: int) -> int:
    """Optimizer steps, for the progress line; packing makes fewer."""
    training = project.training
    batch = training.micro_batch_size * training.gradient_accumulation_steps
    return training.max_steps or math.ceil(math.ceil(rows / batch) * training.epochs)


def scores_checkpoints(project: Project) -> bool:
    """Whether checkpoints are scored on dev items."""
    return project.training.score_checkpoints or project.training.keep_best_by == "score"


def needed_splits(project: Project) -> tuple[Split, ...]:
    """Where a run needs items: to choose a checkpoint on, and then to report on."""
    if project.training.keep_best_by == "score":
        return ("dev", "locked")
    return ("dev",) if project.training.score_checkpoints else ()


def require_split_items(project: Project, tasks: Tasks, splits: Sequence[Split]) -> None:
    """Refuse a split that leaves nothing to choose on, or nothing to report on afterwards.

    Raises:
        TaskError: With every task that counts towards the score and has no item of one of the splits.
    """
    fraction = project.evaluation.dev_fraction
    faults = [
        _no_items(name, split, fraction)
        for name in scoring.primary_metrics(tasks, project.evaluation)
        for split in splits
        if not any(tasks.leaves[leaf].chosen(split, 1, fraction) for leaf in tasks.members.get(name, (name,)))
    ]
    if faults:
        raise TaskError("evaluation", faults)


def _no_items(task: str, split: Split, dev_fraction: float) -> Fault:
    rule = f"one that leaves {task} a {split} item to choose or to report by"
    change = "Raise" if split == "dev" else "Lower"
    return Fault("evaluation.dev_fraction", rule, dev_fraction, f"{change} it, or raise evaluation.limit.")


@dataclass
class _CheckpointScores:
    """Scores checkpoints on the dev items that count, and keeps what each answered.

    Where all tasks count, a trial's own results are those of the kept checkpoint, and need not be measured again.
    """

    project: Project
    base: LoadedBase
    attached: Attached
    tasks: Tasks
    results: list[Results] = field(default_factory=list)

    def __call__(self) -> float:
        from tunery.evaluation.result import headline
        from tunery.evaluation.score import score_model

        evaluation = self.project.evaluation
        counting = scoring.only(self.tasks, list(scoring.primary_metrics(self.tasks, evaluation)))
        self.results.append(score_model(self.attached.model, self.base.tokenizer, counting, evaluation, split="dev"))
        value = headline(self.results[-1], evaluation)
        return math.nan if value is None else value

    def of_kept(self, trained: Trained) -> Results | None:
        """All results of the kept checkpoint; None where tasks are missing, others scored, or weights were cast."""
        steps = [metrics.step for metrics in trained.history if "validation/score" in metrics.values]
        own = dict(zip(reversed(steps), reversed(self.results), strict=False))
        kept = own.get(trained.kept_step)
        whole = kept is not None and set(kept) == set(self.tasks.settings)
        return kept if whole and self.project.adapter.method != "full" else None


def log_trained(project: Project, base: LoadedBase, trained: Trained, tracker: Tracker) -> LoggedAdapter:
    """Before anything else can fail: the adapter is what the GPU hours bought."""
    from tunery.tracking.flavor.adapters import log_adapter

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


def run_record(
    project: Project,
    base: LoadedBase,
    attached: Attached,
    tasks: Tasks,
    trained: Trained,
    before: Results,
    after: Results,
    run_id: str,
    *,
    split: str,
) -> RunRecord:
    """What a run's report shows of its training and its scores.

    Args:
        before, after: Results of the base and of the tuned model.
        split: Which items the headline is computed on.
    """
    return RunRecord(
        run_id=run_id,
        project=project.name,
        identity=base.identity,
        adapter=attached.facts,
        data=None,
        trained=trained,
        base=before,
        tuned=after,
        asked={name: tasks.primary[name] for name in tasks.names},
        primary=scoring.primary_metrics(tasks, project.evaluation),
        split=split,
        notes=base.notes,
    )
