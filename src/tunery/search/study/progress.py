"""How far a study is: its trials as rows, the time that it has taken, and what an observer is shown of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunery.config.project import Project
from tunery.records.studies import TrialRow
from tunery.reporting.text import shown
from tunery.runs.observer import StudyObserver
from tunery.search.objectives import constraint_values
from tunery.search.report.facts import losses
from tunery.search.space.space import OWN_TRIAL, QUEUE_KEY, SEED
from tunery.search.study import queue

# User attributes. Of a study: how long its commands took in all, and their searches. Of a trial: its attempts.
ELAPSED, SEARCHED, SECONDS = "elapsed_seconds", "search_seconds", "seconds"
SETTINGS, NAME = "settings", "name"
TOLD = "told"  # sentences for a person, of a trial's base and data
# At most so much is lost if a process is killed; each note is a write to the storage.
_SECONDS_BETWEEN_NOTES = 10.0


def rows(study: optuna.Study, project: Project) -> list[TrialRow]:
    """The trial that counts for each number, in their order."""
    trials = queue.current_trials(study)
    return [row_of(trials[number], project) for number in sorted(trials, key=int)]


def row_of(trial: FrozenTrial, project: Project) -> TrialRow:
    """One trial. If its settings made it fail, it is pruned to Optuna and failed here."""
    known = trial.user_attrs
    unknown = "killed" if trial.state == TrialState.FAIL else None
    failure = known.get(queue.FAILURE, unknown) if trial.state in (TrialState.FAIL, TrialState.PRUNED) else None
    metrics, bounds = known.get(queue.METRICS, {}), project.search.constraints
    pruned_at = known.get(queue.PRUNED_AT)
    complete = trial.state == TrialState.COMPLETE
    return TrialRow(
        number=int(known[QUEUE_KEY]),
        state="failed" if failure else trial.state.name.lower(),
        settings=known.get(SETTINGS, {}),
        values=dict(zip(project.search.objectives, trial.values or (), strict=True)) if complete else {},
        metrics=metrics,
        feasible=not complete or all(excess <= 0 for excess in constraint_values(metrics, bounds).values()),
        failure=failure,
        reason=known.get(queue.REASON, f"at {pruned_at}" if isinstance(pruned_at, str) else None),
        run_id=known.get(queue.RUN_ID),
        seconds=known.get(SECONDS),
        attempts=queue.retries(trial) + 1,
        name=known.get(NAME, "as declared" if known[QUEUE_KEY] == OWN_TRIAL else ""),
        seed=known.get(SEED),
    )


def best_of(found: Sequence[TrialRow], project: Project) -> list[TrialRow]:
    """Complete trials that keep every bound, best first; ties in the first objective are broken by the next."""
    usable = [row for row in found if row.state == "complete" and row.feasible]
    return sorted(usable, key=lambda row: (losses(row.values, project.search.objectives), row.number))


def best_settings(found: Sequence[TrialRow], project: Project) -> list[TrialRow]:
    """As `best_of`, the best trial of each settings alone: these are the finalists, as many as there may be."""
    chosen: dict[str, TrialRow] = {}
    for row in best_of(found, project):
        chosen.setdefault(json.dumps(row.settings, sort_keys=True), row)
    return list(chosen.values())


class Stopwatch:
    """Starts when it is made, at what earlier processes have noted."""

    def __init__(self, owner: optuna.Study | optuna.Trial, attribute: str) -> None:
        self._owner, self._attribute = owner, attribute
        self.before = self._stored()
        self._began = self._noted = time.monotonic()

    def note(self) -> None:
        """Store the seconds so far, unless another process has stored more or has ended the trial."""
        self._noted = time.monotonic()
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._owner.set_user_attr(self._attribute, max(self.before + self._noted - self._began, self._stored()))

    def note_now_and_then(self) -> None:
        """The same, but not at every step: for a process that may be killed."""
        if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
            self.note()

    def _stored(self) -> float:
        return float(self._owner.user_attrs.get(self._attribute, 0.0))


class StudyProgress:
    """Shows an observer each trial once, whichever process ran it."""

    def __init__(self, project: Project, observer: StudyObserver | None = None) -> None:
        self._project, self._observer = project, observer or StudyObserver()
        self._begun: set[int] = set()
        self._ended: set[tuple[str, int]] = set()  # study and trial: those that need not be shown
        self._workers: dict[str, int] = {}  # numbered in the order in which they appear
        self._told: set[str] = set()
        self._stopwatch: Stopwatch | None = None

    def begin(self, study: optuna.Study) -> None:
        """A study begins or is resumed: trials that have ended before are counted, but not shown."""
        self._stopwatch = Stopwatch(study, ELAPSED)
        search, total = self._project.search, len(queue.current_trials(study))
        # The best, and the project's own settings beside them.
        entered = 1 + min(search.finalists, total - 1) if search.finalists and not search.repeats else 0
        self._observer.finals(entered * search.seeds)
        self._observer.begin(study.study_name, total, self.skip_ended(study))

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
            self._tell(trial.user_attrs.get(TOLD, ()))
            if isinstance(key, int):
                self._show_trial(study, key, trial)
            elif self._has_just_ended(study, trial) and NAME in trial.user_attrs:
                self._show_final(study, trial)

    def waiting(self) -> None:
        """The trials are run by other processes, and this one looks after them."""
        self._observer.waiting()

    def _show_trial(self, study: optuna.Study, key: int, trial: FrozenTrial) -> None:
        if trial.state == TrialState.RUNNING and trial.number not in self._begun and NAME in trial.user_attrs:
            self._begun.add(trial.number)
            self._observer.trial_began(key, trial.user_attrs[NAME], self._worker(trial))
        if self._has_just_ended(study, trial) and not queue.may_retry(trial):
            self._ended.add((study.study_name, trial.number))
            best = best_of(rows(study, self._project), self._project)
            self._observer.trial_ended(row_of(trial, self._project), best[0] if best else None)

    def _has_just_ended(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.state.is_finished() and (study.study_name, trial.number) not in self._ended

    def _worker(self, trial: optuna.Trial | FrozenTrial) -> int:
        return self._workers.setdefault(trial.user_attrs.get(queue.WORKER, ""), len(self._workers))

    def _show_final(self, finals: optuna.Study, trial: FrozenTrial) -> None:
        self._ended.add((finals.study_name, trial.number))
        known, trials = trial.user_attrs, queue.current_trials(finals).values()
        objective = next(iter(self._project.search.objectives))
        values = ", ".join(f"{objective} {shown(objective, value)}" for value in trial.values or ())
        done = f"{sum(one.state.is_finished() for one in trials)}/{len(trials)}"
        where = f"trial {known['trial']} with seed {known['seed']}"
        self.step(f"final {done}: {where}: {known.get(queue.FAILURE) or values}  {known[NAME]}")

    def tell(self, trial: optuna.Trial, sentences: Sequence[str]) -> None:
        """Show what a trial of this process has found of base and data: once in a study, which most trials share."""
        trial.set_user_attr(TOLD, list(sentences))
        self._tell(sentences)

    def _tell(self, sentences: Sequence[str]) -> None:
        for text in sentences:
            if text not in self._told:
                self._told.add(text)
                self.step(text)

    def phase(self, text: str) -> None:
        """A part of the study other than its trials begins, for whichever worker of a pack comes to it first."""
        self._note_time()
        if text not in self._told:
            self._told.add(text)
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
