"""Trained adapters on the locked items: once, after everything was decided."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.records import TaskResult
from tunery.runs import scoring
from tunery.runs.cache import Loaded, Resident
from tunery.runs.stages import base_scores, own_scores

if TYPE_CHECKING:
    from tunery.tracking.store import Store


def score_locked(project: Project, run_id: str, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """Score a run's adapter on the locked items, and log the scores in the run.

    Args:
        project: What the run was trained with.
        run_id: The run.
        resident: Parts that are loaded.
        store: MLflow's.

    Returns:
        Results by task, on locked items only.

    Raises:
        RefError: If the run's adapter is gone.
    """
    from tunery.evaluation.result import headline
    from tunery.models.adapter_files import load_adapter
    from tunery.tracking.flavor.rebuild import rebuild
    from tunery.tracking.registry import download, resolve
    from tunery.tracking.study_runs import log_locked

    tasks = resident.tasks(project)
    with TemporaryDirectory(prefix="tunery-") as place:
        folder = download(resolve(f"runs:/{run_id}", store), Path(place), store)
        if project.adapter.method == "full":
            resident.forget_base()
            rebuilt = rebuild(folder, project.training.device)
            results = own_scores(Loaded(project, rebuilt.loaded, tasks, rebuilt.model), "locked")
        else:
            base = resident.base(project)
            model = load_adapter(base, folder)
            results = own_scores(Loaded(project, base, tasks, model), "locked")
            resident.give_back(project, model)
    log_locked(store, run_id, results, headline(results, project.evaluation))
    return results


def locked_base(project: Project, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """The base's own results on the locked items, looked up."""
    base = resident.base(project)
    return base_scores(Loaded(project, base, resident.tasks(project), base.model), store, "locked")


def primary_of(project: Project, resident: Resident) -> dict[str, str]:
    """The metric of each task that counts towards the score."""
    return scoring.primary_metrics(resident.tasks(project), project.evaluation)
