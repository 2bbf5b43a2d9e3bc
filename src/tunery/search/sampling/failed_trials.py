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
from collections.abc import Container, Mapping, Sequence
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
        if any(map(_is_bad, trials)):
            refused = {f"{_CONSTRAINT}{_FAILURE}": math.inf}, None
            limits, values = refused if self._as_refused else _worst_of(trials, self._study.directions)
            trials = [_shown(trial, limits, values) if _is_bad(trial) else trial for trial in trials]
        return [trial for trial in trials if states is None or trial.state in states]


def _is_bad(trial: FrozenTrial) -> bool:
    """Whether its settings made it fail; one that could not even be drawn whole would shrink the space."""
    return trial.state == TrialState.PRUNED and {_FAILURE, _SETTINGS} <= trial.user_attrs.keys()


def _shown(trial: FrozenTrial, limits: Mapping[str, float], values: Sequence[float] | None) -> FrozenTrial:
    found = copy.copy(trial)
    found.system_attrs = {**trial.system_attrs, **limits}
    if values is not None:
        found.state = TrialState.COMPLETE
        found.values = values
    return found


def _worst_of(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> tuple[dict[str, float], list[float] | None]:
    """How far each constraint was broken at worst, and the worst value of each objective; None if none is known."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    limits: dict[str, float] = {}
    for trial in complete:
        for name, excess in trial.constraints.items():
            limits[f"{_CONSTRAINT}{name}"] = max(excess, limits.get(f"{_CONSTRAINT}{name}", -math.inf))
    worst = [min if direction == StudyDirection.MAXIMIZE else max for direction in directions]
    columns = zip(*(trial.values for trial in complete), strict=True)
    return limits, [of(column) for of, column in zip(worst, columns, strict=True)] if complete else None
