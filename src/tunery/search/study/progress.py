"""How a study stands, told to whoever watches: what this process does at once, what others did when it is looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.reporting.text import shown
from tunery.search.study import queue
from tunery.search.study.rows import best_of, row_of, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.runs.observer import StudyObserver


# User attribute of the study: how long its commands took, in all.
ELAPSED = "elapsed_seconds"
# So much of a command is forgotten at most where it was killed.
_SECONDS_BETWEEN_NOTES = 10.0


class StudyProgress:
    """Tells a view of each trial once, whichever process ran it."""

    def __init__(self, project: Project, view: StudyObserver | None = None) -> None:
        self._project, self._view = project, view
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._told: set[tuple[str, int]] = set()
        self._stopwatch: Stopwatch | None = None

    def begin(self, study: optuna.Study, name: str) -> None:
        """A study begins, or is gone on with: what has ended before is counted and not told."""
        there = queue.standing(study)
        self._stopwatch = Stopwatch(study)
        self._begun = set()
        self._ended = {trial.number for trial in there.values() if trial.state.is_finished()}
        if self._view is not None:
            self._view.begin(name, len(there), len(self._ended))

    def begin_finals(self, finals: optuna.Study) -> None:
        """The finals begin, or are gone on with."""
        there = queue.standing(finals).values()
        self._told |= {(finals.study_name, trial.number) for trial in there if trial.state.is_finished()}

    def trial_began(self, trial: optuna.Trial, slot: int | str, name: str, worker: int) -> None:
        """A trial of this process has begun."""
        self._begun.add(trial.number)
        if self._view is not None and isinstance(slot, int):
            self._view.trial_began(slot, name, worker)

    def trial_step(self, slot: int | str, step: int, total_steps: int, loss: float | None) -> None:
        """A trial of this process is so far."""
        self._note_time()
        if self._view is not None and isinstance(slot, int):
            self._view.trial_step(slot, step, total_steps, loss)

    def look(self, study: optuna.Study) -> None:
        """Tell what has begun and ended since the last look."""
        self._note_time()
        if self._view is None:
            return
        for slot, trial in queue.standing(study).items():
            if not isinstance(slot, int):
                self._look_at_final(study, trial)
                continue
            if trial.state == TrialState.RUNNING and trial.number not in self._begun and "name" in trial.user_attrs:
                self._begun.add(trial.number)
                self._view.trial_began(slot, trial.user_attrs["name"], int(trial.user_attrs.get("worker_number", 0)))
            if trial.state.is_finished() and not queue.may_retry(trial) and trial.number not in self._ended:
                self._ended.add(trial.number)
                best = best_of(rows(study, self._project), self._project)
                self._view.trial_ended(row_of(trial, self._project), best[0] if best else None)

    def _look_at_final(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if (
            not trial.state.is_finished()
            or (study.study_name, trial.number) in self._told
            or "name" not in trial.user_attrs
        ):
            return
        self._told.add((study.study_name, trial.number))
        known, done = trial.user_attrs, sum(one.state.is_finished() for one in queue.standing(study).values())
        objective = next(iter(self._project.search.objectives))
        came = known.get(queue.FAILURE) or ", ".join(
            f"{objective} {shown(objective, one)}" for one in trial.values or ()
        )
        said = f"final {done}/{len(queue.standing(study))}: trial {known['trial']} with seed {known['seed']}: {came}"
        self.step(f"{said}  {known['name']}")

    def phase(self, text: str) -> None:
        """Something else than trials begins."""
        self._note_time()
        if self._view is not None:
            self._view.phase(text)

    def step(self, text: str) -> None:
        """A line for a person."""
        if self._view is not None:
            self._view.step(text)

    def show(self, renderable: RenderableType) -> None:
        """A table for a person."""
        if self._view is not None:
            self._view.show(renderable)

    def _note_time(self) -> None:
        if self._stopwatch is not None:
            self._stopwatch.note_now_and_then()


class Stopwatch:
    """Tells a study how long its commands took, this one included: one that is killed says nothing at its end."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._before = study, float(study.user_attrs.get(ELAPSED, 0.0))
        self._began = self._noted = time.monotonic()

    def note_now_and_then(self) -> None:
        """Write it down, not at every step."""
        now = time.monotonic()
        if now - self._noted > _SECONDS_BETWEEN_NOTES:
            self._noted = now
            self._study.set_user_attr(ELAPSED, self._before + now - self._began)
