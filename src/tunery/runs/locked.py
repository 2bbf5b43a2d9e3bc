"""What a study's runs, their base and their parent score on the locked items, once it has ended."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunery.config.project import Project
from tunery.records.scores import TaskResult
from tunery.runs.cache import Loaded, Resident
from tunery.runs.observer import Observer
from tunery.runs.scoring import base_scores, own_scores, parent_scores

if TYPE_CHECKING:
    from tunery.tracking.store import Store


def score_locked(project: Project, run_id: str, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """Score what a run made on the locked items alone, and log the scores in the run; results by task.

    Raises:
        RefError: If the run's adapter is gone.
    """
    from tunery.evaluation.result import headline
    from tunery.tracking.study_runs import log_locked

    if project.training.trains:
        results = _locked_of_adapter(project, run_id, resident, store)
    else:
        results = own_scores(resident.load(project, ("locked",), Observer()), "locked")
    log_locked(store, run_id, results, headline(results, project.evaluation))
    return results


def _locked_of_adapter(project: Project, run_id: str, resident: Resident, store: Store) -> dict[str, TaskResult]:
    from tunery.models.adapter_files import load_adapter
    from tunery.tracking.flavor.rebuild import rebuild
    from tunery.tracking.registry import download, resolve

    tasks = resident.tasks(project)
    with TemporaryDirectory(prefix="tunery-") as place:
        folder = download(resolve(f"runs:/{run_id}", store), Path(place), store)
        if project.adapter.method == "full":
            resident.forget_base()
            rebuilt = rebuild(folder, project.training.device)
            return own_scores(Loaded(project, rebuilt.loaded, tasks, rebuilt.model), "locked")
        base = resident.base(project)
        model = load_adapter(base, folder)
        results = own_scores(Loaded(project, base, tasks, model), "locked")
        resident.give_back(project, model)
    return results


def locked_base(project: Project, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """The base's own results on the locked items, looked up."""
    base = resident.base(project)
    return base_scores(Loaded(project, base, resident.tasks(project), base.model), store, "locked")


def locked_parent(project: Project, resident: Resident, store: Store) -> dict[str, TaskResult]:
    """Results on the locked items of the adapter that training begins with, looked up; none if that is a new one."""
    start = resident.start(project, store)
    if start is None:
        return {}
    base = resident.base(project)
    loaded = Loaded(project, base, resident.tasks(project), base.model, start=start)
    with resident.adapted(loaded) as begun:  # to be scored, should what the trials kept be gone
        return parent_scores(begun, store, "locked")
