"""One trial of a search: the middle of `tunery train` on resident parts, judged on dev items only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from tunery.config.fingerprint import fingerprint, flatten
from tunery.config.project import Project, resolved
from tunery.errors import (
    BaseModelError,
    Infeasible,
    InputError,
    Interrupted,
    RefError,
    StorageError,
    TrackingError,
)
from tunery.records import Report, RunRecord, TaskResult
from tunery.runs import scoring
from tunery.runs.cache import Resident
from tunery.runs.inputs import input_digests
from tunery.runs.observer import Observer
from tunery.runs.publish import finish, log_scores
from tunery.runs.stages import attach, log_trained, require_split_items, run_costs, run_record, train_adapter
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.adapter import Attached
    from tunery.models.base import LoadedBase
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store

# Trials are compared on dev items, and the winner is told by locked ones.
_SPLITS: tuple[Split, ...] = ("dev", "locked")


def _ignore(_: object) -> None:
    return None


@dataclass(frozen=True)
class TrialPlan:
    """What a trial is, and who is told of it.

    Args:
        project: With the trial's settings laid over it.
        parent: Run id of the study.
        name: Of its run in MLflow.
        tags: Of its run.
        resume: Run id, if the trial was begun before; it goes on from its last checkpoint.
        memory_bytes: What there is; a trial that is estimated to need more is not begun. None: not looked at.
        report: Told each step's metrics; may raise Pruned or TimedOut.
        began: Told the run id, before anything can fail.
        declared: Whether these are the project's own settings, with nothing laid over them.
        limit: Entered around the trial's work; may raise TimedOut in it.
        ended: Told the metrics, before MLflow is told that the run has FINISHED: whoever dies in between can go on.
    """

    project: Project
    parent: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    resume: str | None = None
    memory_bytes: int | None = None
    report: Report | None = None
    began: Callable[[str], None] = _ignore
    ended: Callable[[dict[str, float]], None] = _ignore
    limit: Callable[[], AbstractContextManager[None]] = nullcontext
    declared: bool = False


def run_trial(plan: TrialPlan, resident: Resident, store: Store, observer: Observer) -> dict[str, float]:
    """Train one configuration and score it on dev items, as a child run of the study's.

    Weights, losses and log-likelihoods are those of `tunery train` with the same settings, to the last bit (CPU, fp32),
    whatever was done with the resident parts before.

    Returns:
        Metrics by name: score, delta/<task>, lm_eval/<task>/<metric>, train_seconds, peak_memory_bytes, ...

    Raises:
        Pruned, RunStopped, InputError: MLflow knows why.
    """
    from tunery.tracking.run import open_run

    name = plan.project.name
    resumed = WorkFolder.of(plan.resume).held() if plan.resume else nullcontext()
    with (
        resumed,
        open_run(store, "trial", name, plan.resume, plan.name, plan.parent, plan.tags) as tracker,
        WorkFolder.of(tracker.run_id).held(),
    ):
        work = WorkFolder.of(tracker.run_id)
        try:
            plan.began(tracker.run_id)
            with plan.limit():
                metrics = _trial(plan, resident, tracker, work, observer)
            plan.ended(metrics)
        except (Interrupted, KeyboardInterrupt):
            raise  # its checkpoints are needed when it goes on
        except BaseException:
            work.remove()
            raise
    work.remove()
    return metrics


def refuse_trial(plan: TrialPlan, settings: Mapping[str, Any], store: Store, error: Infeasible) -> NoReturn:
    """Make the run of a trial whose settings make no project: it holds them, and why they were refused.

    Args:
        plan: Its project is the one that is searched.
        settings: What was drawn.
        store: MLflow's.
        error: Raised when all is logged.
    """
    from tunery.tracking.run import open_run

    name = plan.project.name
    with open_run(store, "trial", name, plan.resume, plan.name, plan.parent, plan.tags) as tracker:
        plan.began(tracker.run_id)
        tracker.tag(**{"mlflow.note.content": f"{_link(plan, tracker)}\n\n{error}"})
        tracker.writer.params({f"cfg.{key}": value for key, value in flatten(dict(settings)).items()})
        raise error


def _link(plan: TrialPlan, tracker: Tracker) -> str:
    return f"[{plan.name}](#/experiments/{tracker.experiment_id}/runs/{plan.parent}): a trial of this study."


def _trial(
    plan: TrialPlan, resident: Resident, tracker: Tracker, work: WorkFolder, observer: Observer
) -> dict[str, float]:
    project = plan.project
    tracker.log_config(resolved(project), fingerprint(project))
    link = _link(plan, tracker)
    tracker.tag(**{"mlflow.note.content": link})  # of one that is pruned or fails too, which gets no report
    tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})
    tasks = resident.tasks(project)
    require_split_items(project, tasks, _SPLITS)
    with _of_this_trial(plan):
        _require_memory(plan, resident, tasks)
        base = resident.base(project)
        data = resident.rows(project, base.tokenizer, tasks)
    tracker.log_inputs(input_digests(base, tasks, data))
    tracker.accept_resume()
    tracker.log_dataset(data.report)
    before = _on_dev(scoring.base_results(tracker.store, base, tasks, project.evaluation))

    with _of_this_trial(plan):
        attached = attach(project, base)
    try:
        checkpoint = work.checkpoint() if plan.resume else None
        with _of_this_trial(plan):
            trained, measured = train_adapter(
                project, base, attached, tasks, data, tracker, observer, work, checkpoint, also=plan.report
            )
        logged = log_trained(project, base, trained, tracker)
        after = measured or _score_dev(project, base, attached, tasks)
    except BaseException as error:
        _give_back(resident, project, attached.model, error)
        raise
    resident.give_back(project, attached.model)

    record = run_record(project, base, attached, tasks, trained, before, after, tracker.run_id, split="dev")
    costs = run_costs(trained, attached)
    tracker.log_metrics(costs, model_id=logged.model_id)
    metrics = log_scores(project, record, tracker, logged.model_id) | costs | primary_deltas(record)
    finish(record, tracker, f"{link}\n\n")
    tracker.flush()
    return metrics if trained.validation_nll is None else {**metrics, "validation/nll": trained.validation_nll}


def _require_memory(plan: TrialPlan, resident: Resident, tasks: Tasks) -> None:
    if plan.memory_bytes is None:
        return
    from tunery.config.units import format_bytes
    from tunery.estimation.estimate import estimate
    from tunery.models.base import load_tokenizer

    project = plan.project
    # The rows first, which need no base: one that is allowed to be long need not be so.
    tokenizer = load_tokenizer(project.base, project.folder, chat=project.data.template == "chat")
    data = resident.rows(project, tokenizer, tasks)
    longest = max(len(row.input_ids) for row in data.train)
    try:
        needed = estimate(project, length=None if project.training.packing else longest).total_bytes
    except BaseModelError:  # an architecture of its own code: nobody knows before it is loaded
        return
    if needed > plan.memory_bytes:
        there = format_bytes(plan.memory_bytes)
        raise Infeasible(f"needs about {format_bytes(needed)} of memory, and there is {there}: nothing was loaded")


@contextmanager
def _of_this_trial(plan: TrialPlan) -> Iterator[None]:
    """Settings that base, data or device cannot have make this trial infeasible, not the next.

    Those of the project itself make all of them so: they are told as they are, and end the study.
    """
    try:
        yield
    except (StorageError, TrackingError, RefError):
        raise
    except InputError as error:
        if plan.declared:
            raise
        raise Infeasible(str(error)) from error


def _give_back(resident: Resident, project: Project, model: Any, error: BaseException) -> None:
    """A trial that ended at a step leaves a base as good as new; after anything else nobody knows."""
    from tunery.errors import Pruned

    if isinstance(error, Pruned):
        resident.give_back(project, model)
    else:
        resident.forget_base()


def _on_dev(results: Mapping[str, TaskResult]) -> dict[str, TaskResult]:
    from tunery.evaluation.result import restrict

    return {name: restrict(result, "dev") for name, result in results.items()}


def _score_dev(project: Project, base: LoadedBase, attached: Attached, tasks: Tasks) -> dict[str, TaskResult]:
    from tunery.evaluation.score import score_model

    return score_model(attached.model, base.tokenizer, tasks, project.evaluation, split="dev")


def primary_deltas(record: RunRecord) -> dict[str, float]:
    """delta/<task>: each task's gain over the base on its primary metric; greater is always better."""
    from tunery.statistics.paired import compare_tasks

    return {
        f"delta/{pair.task}": pair.difference.value
        for pair in compare_tasks(record.base, record.tuned, record.shown, "dev")
    }
