"""A study's trials, laid out beforehand as numbered slots: the total is exact, whoever dies and however often.

An Optuna trial that waits is taken by one worker only (in a file: through the proxy in front of it). So all trials of a
study are added waiting, each with its slot, and a worker begins none that was not laid out. Where a worker died, the
slot gets another trial, which follows the dead one and carries on its MLflow run. Whatever was added twice, because two
workers saw the same need, one rule decides: of several first trials of a slot, and of several that follow the same one,
the first counts.
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

SLOT, RUN_ID, FAILURE, REASON = "slot", "run_id", "failure", "reason"
METRICS, SURPLUS, RETRIES, WORKER, FOLLOWS = "metrics", "surplus", "retries", "worker", "follows"
PRUNED_AT, DRAWS, TRAINED = "pruned_at", "draws", "trained"

MOST_RETRIES = 2
MOST_DRAWS = 8  # in a space of which all is infeasible there is nothing else to draw
_WITHDRAWN = "withdrawn"  # of SURPLUS: the total was lowered, and may be raised again
_WELL = (TrialState.COMPLETE, TrialState.PRUNED)
# A trial tells its worker at once, and its run as soon as that is made; one that does not has lost its worker.
_NAMELESS_SECONDS, _RUNLESS_SECONDS = 60.0, 600.0

Slot = int | str


@dataclass(frozen=True)
class TrialJob:
    """A trial to be laid out.

    Args:
        slot: Its number or name; one trial of each is counted.
        fixed: Parameters that are not drawn.
        attributes: Further user attributes.
    """

    slot: Slot
    fixed: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def lay_out(study: optuna.Study, jobs: Sequence[TrialJob], *, withdraw: bool = True) -> None:
    """Add what is missing of the jobs, and withdraw waiting trials that are none of them (unless others want them)."""
    wanted = {job.slot for job in jobs}
    for slot, trials in by_slot(study).items():
        if withdraw and slot not in wanted:
            for trial in trials:
                if trial.state == TrialState.WAITING:
                    _withdraw(study, trial)
    there, all_trials = standing(study), by_slot(study)
    for job in jobs:
        if job.slot not in there:
            _add(study, job, all_trials.get(job.slot, ()))


def _add(study: optuna.Study, job: TrialJob, former: Sequence[FrozenTrial]) -> None:
    """Add a job's trial; one that was begun before its slot was withdrawn goes on."""
    begun = [trial for trial in former if _is_withdrawn(trial) and FOLLOWS in trial.user_attrs]
    attributes = {**job.attributes, SLOT: job.slot}
    if begun:
        _add_again(study, begun[-1], {})
    elif job.fixed:
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
    """The trial that counts for each slot: one that ended well, else the last of those that follow the first."""
    found = {slot: (_last(trials), trials) for slot, trials in by_slot(study).items()}
    return {slot: last for slot, (last, trials) in found.items() if last is not None and not _given_up(last, trials)}


def _last(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    counted = [trial for trial in trials if counts(trial)]
    last = next((trial for trial in counted if trial.state in _WELL), None)
    following = last or next((trial for trial in counted if FOLLOWS not in trial.user_attrs), None)
    while following is not None and following.state not in _WELL:
        last = following
        following = next((trial for trial in counted if trial.user_attrs.get(FOLLOWS) == last.number), None)
    return last


def _given_up(last: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Whether a slot's trial was stopped, and what would have gone on with it was withdrawn."""
    stopped = last.state == TrialState.FAIL
    return stopped and any(_is_withdrawn(trial) and trial.number > last.number for trial in trials)


def _is_withdrawn(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(SURPLUS) == _WITHDRAWN)


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
    last = None if slot is None else _last(by_slot(study)[slot])
    return last is None or last.number != trial.number


def take(study: optuna.Study) -> int | None:
    """Begin the waiting trial of the earliest slot; its id in the storage.

    Optuna takes the one that was added first. One that was stopped would then come last, and samplers that learn would
    draw from another history than that of a study which nobody stopped.
    """
    first = {slot: trials[0].number for slot, trials in by_slot(study).items()}

    def place(trial: FrozenTrial) -> tuple[int, int]:
        return first.get(trial.user_attrs.get(SLOT, ""), trial.number), trial.number

    for trial in sorted(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)), key=place):
        with suppress(UpdateFinishedTrialError):
            if study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                return trial._trial_id
    return None


def requeue(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Take a trial away from its worker, and let another one go on with it.

    Args:
        study: The study.
        trial: Its trial that runs, or was found dead.
        died: As for succeed.
    """
    # The successor first: whoever dies in between leaves two, of which the first is failed later, and not none.
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
    slot = trial.user_attrs.get(SLOT)
    last = None if slot is None else _last(by_slot(study)[slot])
    if again > MOST_RETRIES or last is None or last.number != trial.number or last.state in _WELL:
        return
    _add_again(study, trial, {FOLLOWS: trial.number, RETRIES: again})


def draw_again(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Add a trial for the same slot, whose settings are drawn anew; whether that may help."""
    draws = int(trial.user_attrs.get(DRAWS, 0)) + 1
    known = study._storage.get_trial(trial._trial_id)
    if draws > MOST_DRAWS or _as_enqueued(known):
        return False
    _add_again(study, known, {FOLLOWS: known.number, DRAWS: draws})
    return True


def _add_again(study: optuna.Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Add a waiting trial with all that is known of another one."""
    drawn = RUN_ID in trial.user_attrs  # else it may have ended between two draws, and is drawn anew
    kept = {key: value for key, value in trial.user_attrs.items() if key not in (FAILURE, REASON, WORKER, SURPLUS)}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params if drawn else {},
            distributions=trial.distributions if drawn else {},
            user_attrs={**kept, **attributes},
            system_attrs=_as_drawn(trial) if drawn else _as_enqueued(trial),
            intermediate_values=trial.intermediate_values,
        )
    )


def fail(study: optuna.Study, trial: FrozenTrial, failure: str, reason: str) -> None:
    """End another process's trial, unless it has ended by now."""
    with suppress(UpdateFinishedTrialError):
        for key, value in ((FAILURE, failure), (REASON, reason)):
            study._storage.set_trial_user_attr(trial._trial_id, key, value)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def mend(study: optuna.Study, silent: dict[int, float]) -> None:
    """Bring back slots whose trial was found dead, by a heartbeat or by its silence.

    Args:
        study: The study.
        silent: When the caller first saw each silent trial, by time.monotonic(): clocks of hosts differ.
    """
    if not isinstance(study._storage, optuna.storages.GrpcStorageProxy):
        optuna.storages.fail_stale_trials(study)
    for trial in standing(study).values():
        if may_retry(trial) or _is_late(trial, silent):
            requeue(study, trial, died=True)


def _is_late(trial: FrozenTrial, silent: dict[int, float]) -> bool:
    if trial.state != TrialState.RUNNING or RUN_ID in trial.user_attrs:
        return False
    patience = _RUNLESS_SECONDS if WORKER in trial.user_attrs else _NAMELESS_SECONDS
    now = time.monotonic()
    return now - silent.setdefault(trial.number, now) > patience


def _as_drawn(trial: FrozenTrial) -> dict[str, Any]:
    """What a sampler wrote about how a trial was drawn (its place in a grid, say)."""
    return {key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")}


def _as_enqueued(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that were given when the trial was laid out."""
    return {key: value for key, value in trial.system_attrs.items() if key == "fixed_params"}


def _withdraw(study: optuna.Study, trial: FrozenTrial) -> None:
    with suppress(UpdateFinishedTrialError):
        study._storage.set_trial_user_attr(trial._trial_id, SURPLUS, _WITHDRAWN)
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
