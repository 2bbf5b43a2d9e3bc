"""Shows a study's progress: this process's trials at once, those of other processes when it looks."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.reporting.text import shown
from tunery.runs.observer import StudyObserver
from tunery.search.study import queue
from tunery.search.study.rows import best_of, row_of, rows
from tunery.search.study.stopwatch import ELAPSED, Stopwatch


class StudyProgress:
    """Shows an observer each trial once, whichever process ran it."""

    def __init__(self, project: Project, observer: StudyObserver | None = None) -> None:
        self._project, self._observer = project, observer or StudyObserver()
        self._begun: set[int] = set()
        self._ended: set[tuple[str, int]] = set()  # study and trial: those that need not be shown
        self._workers: dict[str, int] = {}  # numbered in the order in which they appear
        self._stopwatch: Stopwatch | None = None

    def begin(self, study: optuna.Study) -> None:
        """A study begins or is resumed: trials that have ended before are counted, but not shown."""
        self._stopwatch = Stopwatch(study, ELAPSED)
        self._observer.begin(study.study_name, len(queue.current_trials(study)), self.skip_ended(study))

    def skip_ended(self, study: optuna.Study) -> int:
        """Do not show the trials that have ended by now; how many there are."""
        trials = queue.current_trials(study).values()
        ended = {(study.study_name, trial.number) for trial in trials if trial.state.is_finished()}
        self._ended |= ended
        return len(ended)

    def trial_began(self, trial: optuna.Trial, key: queue.Key, name: str) -> None:
        """A trial of this process has begun."""
        self._begun.add(trial.number)
        if isinstance(key, int):
            self._observer.trial_began(key, name, self._worker(trial))

    def trial_step(self, key: queue.Key, step: int, total_steps: int, loss: float | None) -> None:
        """A trial of this process has done an optimizer step."""
        self._note_time()
        if isinstance(key, int):
            self._observer.trial_step(key, step, total_steps, loss)

    def update(self, study: optuna.Study) -> None:
        """Show what has begun and ended since the last look."""
        self._note_time()
        for key, trial in queue.current_trials(study).items():
            if isinstance(key, int):
                self._show_trial(study, key, trial)
            else:
                self._show_final(study, trial)

    def _show_trial(self, study: optuna.Study, key: int, trial: FrozenTrial) -> None:
        known = trial.user_attrs
        if trial.state == TrialState.RUNNING and trial.number not in self._begun and "name" in known:
            self._begun.add(trial.number)
            self._observer.trial_began(key, known["name"], self._worker(trial))
        if self._has_just_ended(study, trial) and not queue.may_retry(trial):
            self._ended.add((study.study_name, trial.number))
            best = best_of(rows(study, self._project), self._project)
            self._observer.trial_ended(row_of(trial, self._project), best[0] if best else None)

    def _has_just_ended(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.state.is_finished() and (study.study_name, trial.number) not in self._ended

    def _worker(self, trial: optuna.Trial | FrozenTrial) -> int:
        return self._workers.setdefault(trial.user_attrs.get(queue.WORKER, ""), len(self._workers))

    def _show_final(self, finals: optuna.Study, trial: FrozenTrial) -> None:
        known = trial.user_attrs
        if not self._has_just_ended(finals, trial) or "name" not in known:
            return
        self._ended.add((finals.study_name, trial.number))
        trials = queue.current_trials(finals)
        done = sum(one.state.is_finished() for one in trials.values())
        objective = next(iter(self._project.search.objectives))
        values = ", ".join(f"{objective} {shown(objective, value)}" for value in trial.values or ())
        result = known.get(queue.FAILURE) or values
        where = f"trial {known['trial']} with seed {known['seed']}"
        self.step(f"final {done}/{len(trials)}: {where}: {result}  {known['name']}")

    def phase(self, text: str) -> None:
        """A part of the study other than its trials begins."""
        self._note_time()
        self._observer.phase(text)

    def step(self, text: str) -> None:
        """Show a line."""
        self._observer.step(text)

    def note_time(self) -> None:
        """Store how long the study's commands took so far, this one included."""
        if self._stopwatch is not None:
            self._stopwatch.note()

    def _note_time(self) -> None:
        if self._stopwatch is not None:
            self._stopwatch.note_now_and_then()
