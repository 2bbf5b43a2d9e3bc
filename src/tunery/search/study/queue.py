"""A study's trials, queued beforehand: their total is exact, whichever workers die and however often.

All trials of a study are added to Optuna's storage as waiting, each with a key, and a worker begins none that was not
queued; the storage gives a waiting trial to one worker only (for a file: through the proxy in front of it). If a worker
dies, another Optuna trial is added under the same key: it follows the dead one and resumes its MLflow run. Two workers
that see the same need may both add one. One rule decides then: of several first trials of a key, and of several that
follow the same trial, the first counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from tunery.search.space.space import QUEUE_KEY

# User attributes of an Optuna trial.
RUN_ID, FAILURE, REASON, METRICS, WORKER = "run_id", "failure", "reason", "metrics", "worker"
SURPLUS, RETRIES, FOLLOWS, PRUNED_AT, DRAWS, TRAINED = "surplus", "retries", "follows", "pruned_at", "draws", "trained"

MOST_RETRIES = 2
MOST_DRAWS = 8  # if the whole space is infeasible there is nothing else to draw
_WITHDRAWN = "withdrawn"  # value of SURPLUS: the total was lowered, and may be raised again
_ENDED_WELL = (TrialState.COMPLETE, TrialState.PRUNED)
_FIXED = "fixed_params"  # system attribute in which Optuna keeps the parameters of an enqueued trial
# A trial stores its worker at once, and its run as soon as there is one; one that does not has lost its worker.
_SECONDS_UNTIL_WORKER, _SECONDS_UNTIL_RUN = 60.0, 600.0

Key = int | str


@dataclass(frozen=True)
class TrialJob:
    """A trial to be queued."""

    key: Key  # its number or name; one Optuna trial of each key counts
    fixed: Mapping[str, Any] = field(default_factory=dict)  # parameters that are given rather than drawn
    attributes: Mapping[str, Any] = field(default_factory=dict)  # further user attributes


def enqueue_trials(study: optuna.Study, jobs: Sequence[TrialJob], *, withdraw: bool = True) -> None:
    """Queue the jobs that are missing, and (unless others need them) withdraw waiting trials that are none of them."""
    wanted = {job.key for job in jobs}
    for key, trials in attempts(study).items():
        if withdraw and key not in wanted:
            for trial in trials:
                with suppress(UpdateFinishedTrialError):
                    if trial.state == TrialState.WAITING:
                        study._storage.set_trial_user_attr(trial._trial_id, SURPLUS, _WITHDRAWN)
                        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    current, all_attempts = current_trials(study), attempts(study)
    for job in jobs:
        if job.key in current:
            continue
        # A trial that was begun before it was withdrawn is resumed.
        former = all_attempts.get(job.key, ())
        begun = [trial for trial in former if _is_withdrawn(trial) and FOLLOWS in trial.user_attrs]
        if begun:
            _enqueue_again(study, begun[-1], {})
        else:
            study.enqueue_trial(dict(job.fixed), user_attrs={**job.attributes, QUEUE_KEY: job.key})


def attempts(study: optuna.Study) -> dict[Key, list[FrozenTrial]]:
    """All Optuna trials of each key, in the order in which they were added."""
    found: dict[Key, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if QUEUE_KEY in trial.user_attrs:
            found.setdefault(trial.user_attrs[QUEUE_KEY], []).append(trial)
    return found


def current_trials(study: optuna.Study) -> dict[Key, FrozenTrial]:
    """The trial that counts for each key: one that ended well, else the last of those that follow the first."""
    found = {}
    for key, trials in attempts(study).items():
        last = _current(trials)
        if last is not None:
            later = any(_is_withdrawn(trial) and trial.number > last.number for trial in trials)
            if last.state != TrialState.FAIL or not later:  # else it was stopped, and its successor was withdrawn
                found[key] = last
    return found


def _current(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    # One that two workers raced for, or that was withdrawn, does not count.
    counted = [trial for trial in trials if not trial.user_attrs.get(SURPLUS, False)]
    last = next((trial for trial in counted if trial.state in _ENDED_WELL), None)
    following = last or next((trial for trial in counted if FOLLOWS not in trial.user_attrs), None)
    while following is not None and following.state not in _ENDED_WELL:
        last = following
        following = next((trial for trial in counted if trial.user_attrs.get(FOLLOWS) == last.number), None)
    return last


def _is_withdrawn(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(SURPLUS) == _WITHDRAWN)


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """Current trials that wait, run, or lost their worker and may be retried."""
    return [trial for trial in current_trials(study).values() if not trial.state.is_finished() or may_retry(trial)]


def may_retry(trial: FrozenTrial) -> bool:
    """Whether a failed trial lost its worker, and has not done so too often."""
    # Without a reason of its own it was found dead by another process (Optuna's heartbeat).
    lost = trial.state == TrialState.FAIL and trial.user_attrs.get(FAILURE, "killed") == "killed"
    return lost and retries(trial) < MOST_RETRIES


def retries(trial: FrozenTrial) -> int:
    """How often a trial was begun again because its worker had died."""
    return int(trial.user_attrs.get(RETRIES, 0))


def was_begun(trial: optuna.Trial | FrozenTrial) -> bool:
    """Whether the trial was begun before, by a worker that died or was stopped."""
    return RETRIES in trial.user_attrs


def is_surplus(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether a trial that has just begun has no key, or another trial counts for its key."""
    key = trial.user_attrs.get(QUEUE_KEY)
    last = None if key is None else _current(attempts(study)[key])
    return last is None or last.number != trial.number


def pop_earliest(study: optuna.Study) -> int | None:
    """Begin the waiting trial whose key was queued first; its id in the storage.

    Optuna takes the trial that was added first. One that was stopped would then come last, and samplers that learn
    would draw from another history than that of a study that was never stopped.
    """
    first = {key: trials[0].number for key, trials in attempts(study).items()}

    def place(trial: FrozenTrial) -> tuple[int, int]:
        return first.get(trial.user_attrs.get(QUEUE_KEY, ""), trial.number), trial.number

    for trial in sorted(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)), key=place):
        with suppress(UpdateFinishedTrialError):
            if study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                return trial._trial_id
    return None


def requeue(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Take a trial that runs, or was found dead, away from its worker, and let another one resume it."""
    # The successor first: a process that dies in between leaves two trials, of which the first is failed later.
    add_successor(study, trial, died=died)
    if not trial.state.is_finished():
        fail(study, trial, "killed", "its worker died" if died else "its worker was stopped")


def add_successor(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Queue a trial with the same key, parameters and MLflow run, after one that ends unfinished.

    It counts as a retry, of which there are MOST_RETRIES, if the worker died rather than was asked to stop.
    """
    again = retries(trial) + died
    key = trial.user_attrs.get(QUEUE_KEY)
    last = None if key is None else _current(attempts(study)[key])
    if again > MOST_RETRIES or last is None or last.number != trial.number or last.state in _ENDED_WELL:
        return
    _enqueue_again(study, trial, {FOLLOWS: trial.number, RETRIES: again})


def draw_again(trial: optuna.Trial) -> bool:
    """Queue a trial with the same key whose settings are drawn anew; whether that may help."""
    draws = int(trial.user_attrs.get(DRAWS, 0)) + 1
    known = trial.storage.get_trial(trial._trial_id)
    if draws > MOST_DRAWS or known.system_attrs.get(_FIXED):
        return False
    _enqueue_again(trial.study, known, {FOLLOWS: known.number, DRAWS: draws})
    return True


def _enqueue_again(study: optuna.Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Add a waiting trial with everything that is known of another one."""
    drawn = RUN_ID in trial.user_attrs  # else it may have ended between two draws, and is drawn anew
    user = {key: value for key, value in trial.user_attrs.items() if key not in (FAILURE, REASON, WORKER, SURPLUS)}
    # Of one that was drawn, also what its sampler stored; of another, the parameters that it was queued with.
    system = {
        key: value
        for key, value in trial.system_attrs.items()
        if key == _FIXED or (drawn and not key.startswith("constraints"))
    }
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params if drawn else {},
            distributions=trial.distributions if drawn else {},
            user_attrs={**user, **attributes},
            system_attrs=system,
            intermediate_values=trial.intermediate_values,
        )
    )


def fail(study: optuna.Study, trial: FrozenTrial, failure: str, reason: str) -> None:
    """End another process's trial, unless it has ended by now."""
    with suppress(UpdateFinishedTrialError):
        for key, value in ((FAILURE, failure), (REASON, reason)):
            study._storage.set_trial_user_attr(trial._trial_id, key, value)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def requeue_dead_trials(study: optuna.Study, silent_since: dict[int, float]) -> None:
    """Requeue trials whose worker is dead, by its heartbeat or its silence.

    `silent_since` keeps when the caller first saw each silent trial, by time.monotonic(): the clocks of hosts differ.
    """
    if not isinstance(study._storage, optuna.storages.GrpcStorageProxy):
        optuna.storages.fail_stale_trials(study)
    for trial in current_trials(study).values():
        if may_retry(trial) or _is_overdue(trial, silent_since):
            requeue(study, trial, died=True)


def requeue_running_trials(study: optuna.Study, *, died: bool) -> None:
    """Requeue every trial that runs: for a study in a file on which no command works now."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        requeue(study, trial, died=died)


def _is_overdue(trial: FrozenTrial, silent_since: dict[int, float]) -> bool:
    if trial.state != TrialState.RUNNING or RUN_ID in trial.user_attrs:
        return False
    patience = _SECONDS_UNTIL_RUN if WORKER in trial.user_attrs else _SECONDS_UNTIL_WORKER
    now = time.monotonic()
    return now - silent_since.setdefault(trial.number, now) > patience
