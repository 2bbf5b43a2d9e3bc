"""What a sampler is shown of trials that failed by their settings (oom, nan, timeout, infeasible): that they were bad.

Optuna's samplers leave failed trials out, and all but TPE leave out pruned ones too: they would ask for the same region
again. In the storage such a trial stays what it is, without a value. A sampler sees it as

- tpe: a trial that breaks a constraint, which TPE ranks below all that keep theirs, pruned ones among them;
- others: a complete trial, as bad in each objective and constraint as the worst that was measured.

Source of the latter: the treatment of crashed runs in SMAC, Hutter, Hoos and Leyton-Brown, LION 5 (2011).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence
from typing import Any, cast

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

_FAILURE, _SETTINGS = "failure", "settings"
_CONSTRAINT = "constraints:"  # prefix under which Optuna stores trial.set_constraint


def with_failed_trials(study: Study, sampler: str) -> Study:
    """The study as a sampler should see it; whatever is written to it reaches the real one."""
    return cast("Study", _WithFailedTrials(study, as_refused=sampler == "tpe"))


class _WithFailedTrials:
    def __init__(self, study: Study, *, as_refused: bool) -> None:
        self._study, self._as_refused = study, as_refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy, None, use_cache)
        if any(_is_bad(trial) for trial in trials):
            shown = _refused if self._as_refused else _as_worst_of(trials, self._study.directions)
            trials = [shown(trial) if _is_bad(trial) else trial for trial in trials]
        return [trial for trial in trials if states is None or trial.state in states]


def _is_bad(trial: FrozenTrial) -> bool:
    """Whether its settings made it fail; one that could not even be drawn whole would shrink the space."""
    return trial.state == TrialState.PRUNED and {_FAILURE, _SETTINGS} <= trial.user_attrs.keys()


def _refused(trial: FrozenTrial) -> FrozenTrial:
    found = copy.copy(trial)
    found.system_attrs = {**trial.system_attrs, f"{_CONSTRAINT}{_FAILURE}": math.inf}
    return found


def _as_worst_of(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> Any:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return lambda trial: trial
    columns = zip(*(trial.values for trial in complete), strict=True)
    values = [_worst(column, direction) for column, direction in zip(columns, directions, strict=True)]
    names = dict.fromkeys(name for trial in complete for name in trial.constraints)
    limits = {
        f"{_CONSTRAINT}{name}": max(trial.constraints[name] for trial in complete if name in trial.constraints)
        for name in names
    }

    def shown(trial: FrozenTrial) -> FrozenTrial:
        found = copy.copy(trial)
        found.state = TrialState.COMPLETE
        found.values = values
        found.system_attrs = {**trial.system_attrs, **limits}
        return found

    return shown


def _worst(column: Sequence[float], direction: StudyDirection) -> float:
    return min(column) if direction == StudyDirection.MAXIMIZE else max(column)
