"""Trained adapters on the locked items: once, after everything was decided."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.records import TaskResult
from tunery.runs import scoring
from tunery.runs.cache import Resident

if TYPE_CHECKING:
    from tunery.tracking.store import Store


def score_locked(project: Project, run_id: str, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """Score a run's adapter on the locked items, and tell the run.

    Args:
        project: What the run was trained with.
        run_id: The run.
        resident: Parts that are loaded.
        store: MLflow's.

    Returns:
        Results by task, on locked items only.

    Raises:
        RefError: If the run has no adapter any more.
    """
    from tunery.evaluation.result import headline
    from tunery.evaluation.score import score_model
    from tunery.models.adapter import load_adapter
    from tunery.tracking.flavor.rebuild import rebuild
    from tunery.tracking.registry import download, resolve
    from tunery.tracking.study_runs import log_locked

    tasks = resident.tasks(project)
    with TemporaryDirectory(prefix="tunery-") as place:
        folder = download(resolve(f"runs:/{run_id}", store), Path(place), store)
        if project.adapter.method == "full":
            resident.forget_base()
            loaded = rebuild(folder, project.training.device)
            results = score_model(loaded.model, loaded.loaded.tokenizer, tasks, project.evaluation, split="locked")
        else:
            base = resident.base(project)
            model = load_adapter(base, folder)
            results = score_model(model, base.tokenizer, tasks, project.evaluation, split="locked")
            resident.give_back(project, model)
    log_locked(store, run_id, results, headline(results, project.evaluation))
    return results


def locked_base(project: Project, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """The base's own results on the locked items, looked up."""
    from tunery.evaluation.result import restrict

    base, tasks = resident.base(project), resident.tasks(project)
    results = scoring.base_results(store, base, tasks, project.evaluation)
    return {name: restrict(result, "locked") for name, result in results.items()}


def primary_of(project: Project, resident: Resident) -> dict[str, str]:
    """The metric of each task that counts towards the score."""
    return scoring.primary_metrics(resident.tasks(project), project.evaluation)
