"""`tunery evaluate`: score anything beside its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.records import RunRecord, TaskResult
from tunery.runs import scoring
from tunery.runs.observer import Observer
from tunery.runs.publish import finish, log_pictures, log_scores
from tunery.runs.resolve_model import EvaluatedModel, load_evaluated_model

if TYPE_CHECKING:
    from tunery.evaluation.tasks import Tasks
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store


def evaluate_reference(
    ref: str,
    project: str | None,
    overrides: Sequence[tuple[str, str]],
    observer: Observer,
    *,
    tracking_uri: str | None = None,
    run_name: str | None = None,
) -> RunRecord:
    """Score what a reference leads to, and its base where it has one, as a run of kind `evaluation`.

    Args:
        ref: models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.
        project: Folder of a project whose settings are used; by default those that the model was trained with.
        overrides: Pairs of config key and YAML value.
        observer: Told what a person would want to see.
        tracking_uri: MLflow store.
        run_name: Name of the run.

    Raises:
        InputError: If the reference, the settings or the tasks cannot be used.
    """
    from tunery.runs.report.tables import run_table
    from tunery.tracking.run import open_run
    from tunery.tracking.store import connect

    store = connect(tracking_uri, "evaluation" if project is None else project_name(project, overrides))
    observer.step(f"loading {ref}")
    subject = load_evaluated_model(ref, project, overrides, store)
    settings = subject.project
    tasks = _load_tasks(settings)
    # Beside the run that trained the model: a project's experiment holds all that is known of its models.
    store = replace(store, experiment=settings.name)
    with open_run(store, "evaluation", settings.name, run_name=run_name or f"evaluate {ref}") as tracker:
        observer.step(f"run {tracker.run_id}: scoring on {', '.join(tasks.names)}")
        record = _score(subject, tasks, store, tracker)
        _log(settings, record, subject, ref, tracker)
        observer.show(run_table(record))
    return record


def project_name(project: str, overrides: Sequence[tuple[str, str]]) -> str:
    """Name of the project, which is the experiment that the evaluation is found in."""
    from tunery.config.load import load_project

    return load_project(project, overrides).name


def _load_tasks(project: Project) -> Tasks:
    from tunery.evaluation.tasks import load_tasks

    return load_tasks(project.evaluation, project.folder, scoring.asks_through_chat(project))


def _score(subject: EvaluatedModel, tasks: Tasks, store: Store, tracker: Tracker) -> RunRecord:
    from tunery.evaluation.eval_mode import adapter_off

    evaluation = subject.project.evaluation
    with adapter_off(subject.model):
        base = scoring.base_results(store, subject.base, tasks, evaluation)
    return RunRecord(
        run_id=tracker.run_id,
        project=subject.project.name,
        identity=subject.base.identity,
        adapter=None,
        data=None,
        trained=None,
        base=base,
        tuned=_tuned(subject, tasks),
        asked={name: tasks.primary[name] for name in tasks.names},
        primary=scoring.primary_metrics(tasks, evaluation),
        split=subject.split,
        model_version=subject.version,
        notes=subject.base.notes,
    )


def _tuned(subject: EvaluatedModel, tasks: Tasks) -> dict[str, TaskResult]:
    from tunery.evaluation.score import score_model

    if not subject.adapted:
        return {}
    return score_model(subject.model, subject.base.tokenizer, tasks, subject.project.evaluation)


def _log(project: Project, record: RunRecord, subject: EvaluatedModel, ref: str, tracker: Tracker) -> None:
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import EVALUATED_MODEL

    tracker.log_config(resolved(project), fingerprint(project))
    # A bare model was not trained here: the adapter section that it is judged with says nothing of it.
    tracker.tag(**{"tunery.ref": ref}, **({} if subject.adapted else {"tunery.method": "none"}))
    if subject.model_id is not None:
        tracker.tag(**{EVALUATED_MODEL: subject.model_id})
    log_scores(project, record, tracker, subject.model_id)
    log_pictures(record, tracker)
    tracker.log_provenance(collect(project.folder))
    finish(record, tracker)
