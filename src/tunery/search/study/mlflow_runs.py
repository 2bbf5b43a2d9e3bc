"""The runs of a study in MLflow: its own, opened by the first process, and those of trials whose worker died."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import optuna

from tunery.config.fingerprint import fingerprint
from tunery.config.project import Project, resolved
from tunery.search.study import queue
from tunery.search.study.storage import related_studies, unreachable_errors

if TYPE_CHECKING:
    from tunery.tracking.run import Tracker
    from tunery.tracking.store import Store

# User attributes of a study. Two storages may hold studies of one name: the run in MLflow is tagged with an id.
STUDY_RUN, STUDY_ID, MADE_BY = "run_id", "id", "made_by"
THIS_PROCESS = secrets.token_hex(16)  # not its id: processes of two containers may have the same
SECONDS_TO_BE_MADE = 120.0
# A run is made first, and then its trial stores the run's id.
_JUST_MADE_SECONDS = 60.0


@contextmanager
def study_run(study: optuna.Study, store: Store, project: Project, name: str, *, one_host: bool) -> Iterator[Tracker]:
    """Open the study's one run in MLflow; the first process creates it, with the given name.

    Unless no other host can use the study, the run stays open while others run trials.
    """
    from tunery.tracking.provenance import collect
    from tunery.tracking.run import open_run

    existing = run_of_study(study, store, wait=not one_host)
    described = STUDY_RUN in study.user_attrs
    tags = {"tunery.study": study.study_name, "tunery.study_id": study.user_attrs[STUDY_ID]}
    with open_run(store, "study", project.name, existing, name, tags=tags) as tracker:
        if not described:
            tracker.log_config(resolved(project), fingerprint(project), first=True)
            tracker.tag(**{"tunery.project_folder": str(project.folder.absolute())})
            tracker.log_provenance(collect(project.folder, project.tracking.diff))
            study.set_user_attr(STUDY_RUN, tracker.run_id)  # last: after a kill all of it is done again
        tracker.accept_resume()
        try:
            yield tracker
        except BaseException:
            if not one_host and _is_worked_on(study):
                tracker.hand_over()
            raise


def run_of_study(study: optuna.Study, store: Store, *, wait: bool) -> str | None:
    """The study's run in MLflow, or None; with `wait` another host may be creating it now.

    It is looked for in MLflow, too: the process that created it may have died before it stored the id.
    """
    from tunery.tracking.study_runs import run_tagged

    until = time.monotonic() + SECONDS_TO_BE_MADE
    while wait and STUDY_RUN not in study.user_attrs and study.user_attrs.get(MADE_BY) != THIS_PROCESS:
        if time.monotonic() > until:
            break  # the process that was to create it has died
        time.sleep(0.5)
    found = study.user_attrs.get(STUDY_RUN)
    if found is None:
        found = run_tagged(store, "tunery.study_id", study.user_attrs[STUDY_ID])
    return None if found is None else str(found)


def _is_worked_on(study: optuna.Study) -> bool:
    """Whether other processes run a trial of the study now; those of this one are known to have ended."""
    with suppress(OSError, optuna.exceptions.OptunaError, *unreachable_errors()):  # must not hide why the study ends
        for one in related_studies(study):
            queue.requeue_dead_trials(one, {})
            if one.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                return True
    return False


def end_abandoned_runs(studies: Sequence[optuna.Study], store: Store, parent: str, *, one_host: bool) -> None:
    """End the runs that a dead worker left RUNNING; runs of other hosts' workers, and of waiting trials, are kept."""
    from tunery.tracking.study_runs import end_abandoned

    def worked_on() -> dict[str, bool]:
        found: dict[str, bool] = {}
        for trial in (trial for study in studies for trial in study.get_trials(deepcopy=False)):
            if queue.RUN_ID in trial.user_attrs:
                run_id = trial.user_attrs[queue.RUN_ID]
                found[run_id] = found.get(run_id, False) or trial.state == optuna.trial.TrialState.RUNNING
        return found

    end_abandoned(store, parent, worked_on, 0.0 if one_host else _JUST_MADE_SECONDS)
