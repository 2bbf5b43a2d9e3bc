"""One trial of a study: the middle of `tunery train` on resident parts, judged on dev items only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from tunery.config.fingerprint import flatten
from tunery.config.project import Project
from tunery.errors import (
    Infeasible,
    InputError,
    Interrupted,
    Pruned,
    RefError,
    StorageError,
    StoreAway,
    TaskError,
    TrackingError,
)
from tunery.records.runs import BaseFit, Report, RunRecord
from tunery.runs.base_fit import base_fit
from tunery.runs.cache import Loaded, Resident
from tunery.runs.in_context import log_context, score_in_context
from tunery.runs.observer import Observer
from tunery.runs.publish import finish, log_scores
from tunery.runs.racing import Rival, raced_scores
from tunery.runs.scoring import Results, base_scores, parent_scores
from tunery.runs.stages import log_inputs, log_settings, log_trained, opened, run_record, train_adapter
from tunery.runs.workdir import WorkFolder

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store


@dataclass(frozen=True)
class TrialPlan:
    """What a trial is, and which functions it calls on its way."""

    project: Project  # with the trial's settings laid over it
    parent: str  # run id of the study
    name: str  # of its run in MLflow
    tags: Mapping[str, str] = field(default_factory=dict)  # of its run
    resume: str | None = None  # run id, if the trial was begun before; it is resumed from its last checkpoint
    # Available memory; a trial that is estimated to need more is not begun. None: no limit.
    memory_bytes: int | None = None
    report: Report | None = None  # called with each step's metrics; may raise Pruned or TimedOut
    began: Callable[[str], None] = lambda _: None  # called with the run id, before anything can fail
    fits: Callable[[BaseFit], None] = lambda _: None  # called with how well its base predicts its training answers
    # Called with the metrics before MLflow has the run as FINISHED: after a crash in between, the trial need not be
    # repeated.
    ended: Callable[[dict[str, float]], None] = lambda _: None
    # Entered around the trial's work; may raise TimedOut in it.
    limit: Callable[[], AbstractContextManager[None]] = nullcontext
    rival: Callable[[], Rival | None] = lambda: None  # asked when it is trained: whom it is raced against
    outraced: Callable[[str], None] = lambda _: None  # called with how far it was scored, as `ended`
    declared: bool = False  # whether these are the project's own settings, with nothing laid over them

    def open(self, store: Store) -> Tracker:
        """Its run in MLflow, a child of the study's."""
        from tunery.tracking.run import open_run

        return open_run(store, "trial", self.project.name, self.resume, self.name, self.parent, self.tags)

    def link(self, tracker: Tracker) -> str:
        """Markdown that leads from its run to the study."""
        from tunery.tracking.links import run_link

        return f"[{self.name}]({run_link(tracker.experiment_id, self.parent)}): a trial of this study."


def run_trial(plan: TrialPlan, resident: Resident, store: Store, observer: Observer) -> dict[str, float]:
    """Train one configuration and score it on dev items, as a child run of the study's.

    Weights, losses and log-likelihoods are those of `tunery train` with the same settings, to the last bit (CPU, fp32),
    whatever was done with the resident parts before. Of a raced trial, log-likelihoods agree to about 1e-5 nats: blocks
    are batched otherwise than all items at once.

    Returns:
        Metrics by name: score, delta/<task>, lm_eval/<task>/<metric>, train_seconds, peak_memory_bytes, ...

    Raises:
        Pruned, RunStopped, InputError: MLflow knows why.
    """
    with opened(plan.open(store), plan.resume) as (tracker, work):
        try:
            plan.began(tracker.run_id)
            with plan.limit():
                metrics = _trial(plan, resident, tracker, work, observer)
            plan.ended(metrics)
        except (Interrupted, KeyboardInterrupt, StoreAway):
            raise  # its checkpoints are needed when it is resumed
        except BaseException:
            work.remove()
            raise
    return metrics


def _trial(
    plan: TrialPlan, resident: Resident, tracker: Tracker, work: WorkFolder, observer: Observer
) -> dict[str, float]:
    project, store = plan.project, tracker.store
    log_settings(project, tracker)
    tracker.tag(
        **{"mlflow.note.content": plan.link(tracker)}
    )  # a trial that is pruned or fails gets no report, but this link
    with _blame_settings(plan):
        # Trials are compared on dev items, and the winner is reported on locked ones.
        start = resident.start(project, store)
        loaded = resident.load(project, ("dev", "locked"), observer, plan.memory_bytes, start)
    log_inputs(loaded, tracker)
    if loaded.context is not None:
        return _in_context(plan, loaded, tracker)
    fit = base_fit(loaded, tracker)
    if fit is not None:
        plan.fits(fit)
    before = base_scores(loaded, store, "dev")

    with _blame_settings(plan), resident.adapted(loaded) as tuned:
        checkpoint = work.checkpoint() if plan.resume else None
        parent = parent_scores(tuned, store, "dev")
        trained, measured = train_adapter(tuned, tracker, observer, work, checkpoint, also=plan.report)
        logged, costs = log_trained(tuned, trained, tracker)
        after = measured or _scored(tuned, plan, store)

    record = replace(run_record(tuned, tracker.run_id, before, after, "dev", trained, parent=parent), fit=fit)
    metrics = _logged(plan, record, tracker, logged.model_id) | costs
    return metrics if trained.validation_nll is None else {**metrics, "validation/nll": trained.validation_nll}


def _scored(tuned: Loaded, plan: TrialPlan, store: Store) -> Results:
    try:
        return raced_scores(tuned, store, plan.rival())
    except Pruned as error:
        plan.outraced(error.at)
        raise


def _in_context(plan: TrialPlan, loaded: Loaded, tracker: Tracker) -> dict[str, float]:
    facts = log_context(loaded, tracker)
    before = base_scores(loaded, tracker.store, "dev")
    with _blame_settings(plan):
        after, costs = score_in_context(loaded, tracker, "dev")
    record = replace(run_record(loaded, tracker.run_id, before, after, "dev"), context=facts)
    return _logged(plan, record, tracker) | costs


def _logged(plan: TrialPlan, record: RunRecord, tracker: Tracker, model_id: str | None = None) -> dict[str, float]:
    """Scores, samples and the report go to MLflow; the metrics by name."""
    from tunery.statistics.paired import compare_tasks

    metrics = log_scores(plan.project, record, tracker, model_id)
    for pair in compare_tasks(record.base, record.tuned, record.shown, "dev"):
        metrics[f"delta/{pair.task}"] = pair.difference.value  # over the base; greater is always better
    finish(record, tracker, f"{plan.link(tracker)}\n\n")
    tracker.flush()
    return metrics


@contextmanager
def _blame_settings(plan: TrialPlan) -> Iterator[None]:
    """Settings that base, data or device refuse make this trial infeasible, not the next.

    A fault of the project's own settings is a fault of every trial: it is raised as it is, and ends the study.
    """
    try:
        yield
    except (StorageError, TrackingError, RefError, TaskError):
        raise
    except InputError as error:
        if plan.declared:
            raise
        raise Infeasible(str(error)) from error


def refuse_trial(plan: TrialPlan, settings: Mapping[str, Any], store: Store, error: Infeasible) -> NoReturn:
    """Make the run of a trial whose settings do not make a project: it holds them, and why they were refused.

    Args:
        plan: Its project is the one that is searched.
        settings: What was drawn.
        store: MLflow's.
        error: Raised when all is logged.
    """
    with plan.open(store) as tracker:
        plan.began(tracker.run_id)
        tracker.tag(**{"mlflow.note.content": f"{plan.link(tracker)}\n\n{error}"})
        tracker.log_params({f"cfg.{key}": value for key, value in flatten(dict(settings)).items()})
        raise error
