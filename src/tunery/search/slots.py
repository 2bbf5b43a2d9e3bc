"""A study's trials, laid out beforehand as numbered slots: the total is exact, whoever dies and however often.

An Optuna trial that waits is taken by one worker only, in every storage. So all trials of a study are added waiting,
each with its slot, and a worker begins none that was not laid out. Where a worker died, the slot gets another trial,
which carries on the MLflow run of the dead one.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

SLOT, RUN_ID, FAILURE, REASON = "slot", "run_id", "failure", "reason"
METRICS, SURPLUS, RETRIES, WORKER = "metrics", "surplus", "retries", "worker"

MOST_RETRIES = 2
# A trial tells its run as soon as it has begun; one that did not in this time has lost its worker.
_SILENT_SECONDS = 600.0

Slot = int | str


@dataclass(frozen=True)
class Job:
    """A trial to be laid out.

    Args:
        slot: Its number or name; one trial of each is counted.
        fixed: Parameters that are not drawn.
        attributes: Further user attributes.
    """

    slot: Slot
    fixed: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def lay_out(study: optuna.Study, jobs: Sequence[Job]) -> None:
    """Add what is missing of the jobs, and withdraw waiting trials that are none of them."""
    wanted = {job.slot for job in jobs}
    there = by_slot(study)
    for slot, trials in there.items():
        if slot not in wanted:
            for trial in trials:
                if trial.state == TrialState.WAITING:
                    _withdraw(study, trial)
    for job in jobs:
        if not any(counts(trial) for trial in there.get(job.slot, ())):
            attributes = {**job.attributes, SLOT: job.slot}
            if job.fixed:
                study.enqueue_trial(dict(job.fixed), user_attrs=attributes)
            else:
                # Not enqueue_trial: GridSampler takes even an empty dict for a full set of fixed parameters.
                study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes))


def by_slot(study: optuna.Study) -> dict[Slot, list[FrozenTrial]]:
    """All trials of each slot, in the order in which they were added."""
    found: dict[Slot, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if SLOT in trial.user_attrs:
            found.setdefault(trial.user_attrs[SLOT], []).append(trial)
    return found


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial stands for its slot; one that two workers raced for, or that was withdrawn, does not."""
    return not trial.user_attrs.get(SURPLUS, False)


def standing(study: optuna.Study) -> dict[Slot, FrozenTrial]:
    """The trial that counts for each slot: one that ended well, else the last."""
    chosen = {}
    for slot, trials in by_slot(study).items():
        counted = [trial for trial in trials if counts(trial)]
        ended = [trial for trial in counted if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if counted:
            chosen[slot] = (ended or counted[-1:])[0]
    return chosen


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """Standing trials that wait, run, or died and may be tried again."""
    return [trial for trial in standing(study).values() if not trial.state.is_finished() or may_retry(trial)]


def may_retry(trial: FrozenTrial) -> bool:
    """Whether a failed trial lost its worker, and has not done so too often."""
    # Without a reason of its own it was another process that found it dead (Optuna's heartbeat).
    lost = trial.state == TrialState.FAIL and trial.user_attrs.get(FAILURE, "killed") == "killed"
    return lost and retries(trial) < MOST_RETRIES


def retries(trial: FrozenTrial) -> int:
    """How often a trial was begun again because its worker had died."""
    return int(trial.user_attrs.get(RETRIES, 0))


def was_tried(trial: optuna.Trial | FrozenTrial) -> bool:
    """Whether the slot's trial was begun before, by a worker that died or was stopped."""
    return RETRIES in trial.user_attrs


def is_superfluous(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether a trial that was just begun stands for no slot, or for one that another trial serves."""
    slot = trial.user_attrs.get(SLOT)
    if slot is None:
        return True
    others = [other for other in by_slot(study)[slot] if other.number != trial.number and counts(other)]
    return any(
        other.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or (other.state == TrialState.RUNNING and other.number < trial.number)
        for other in others
    )


def requeue(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Take a trial away from its worker, and let another one go on with it.

    Args:
        study: The study.
        trial: Its trial that runs, or was found dead.
        died: As for succeed.
    """
    # The successor first: whoever dies in between leaves two, of which one is superfluous, and not none.
    succeed(study, trial, died=died)
    if not trial.state.is_finished():
        fail(study, trial, "killed", "its worker died" if died else "its worker was stopped")


def succeed(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Add a trial for the same slot, with the same parameters and the same MLflow run; not after MOST_RETRIES.

    Args:
        study: The study.
        trial: The one that ends unfinished.
        died: Whether it counts as a retry: its worker died, rather than was asked to stop.
    """
    again = retries(trial) + died
    later = [other for other in by_slot(study)[trial.user_attrs[SLOT]] if other.number > trial.number]
    if again > MOST_RETRIES or any(counts(other) for other in later):
        return
    attributes = {key: value for key, value in trial.user_attrs.items() if key not in (FAILURE, REASON, WORKER)}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**attributes, RETRIES: again},
            system_attrs=_as_drawn(trial),
            intermediate_values=trial.intermediate_values,
        )
    )


def fail(study: optuna.Study, trial: FrozenTrial, failure: str, reason: str) -> None:
    """End another process's trial."""
    for key, value in ((FAILURE, failure), (REASON, reason)):
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def mend(study: optuna.Study) -> None:
    """Bring back slots whose trial was found dead, by a heartbeat or by its silence."""
    if not isinstance(study._storage, optuna.storages.GrpcStorageProxy):
        optuna.storages.fail_stale_trials(study)
    now = datetime.datetime.now()
    for trial in standing(study).values():
        silent = trial.state == TrialState.RUNNING and RUN_ID not in trial.user_attrs
        late = silent and (now - (trial.datetime_start or now)).total_seconds() > _SILENT_SECONDS
        if late or may_retry(trial):
            requeue(study, trial, died=True)


def _as_drawn(trial: FrozenTrial) -> dict[str, Any]:
    """What a sampler wrote about how a trial was drawn (its place in a grid, say)."""
    return {key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")}


def _withdraw(study: optuna.Study, trial: FrozenTrial) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, SURPLUS, True)
    study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
