"""How a trial's settings are chosen: the same slot of a study draws the same, in any process, however often resumed.

Optuna's samplers hold random state, so that what is drawn depends on what the process drew before. Here each trial gets
a sampler of its own, seeded by the study's seed and the trial's slot; what it learns, it reads from the storage.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tunery.config.search import Dimension, SearchConfig
from tunery.search.sampling.failed_trials import with_lessons
from tunery.search.sampling.fixed_points import GridPoint, QuasiRandomPoint
from tunery.search.space.parameters import Label

SlotOf = Callable[[FrozenTrial], int]

# Trials at random before a model of the space is trusted. Optuna's 10 is half of a study of 20.
STARTUP_TRIALS = 5
# Optuna's 50 would leave a study of 20 trials in its first, random generation.
POPULATION = 10


def slot_of_trial(trial: FrozenTrial) -> int:
    """The trial's place in the study; one without a numbered place draws nothing, or has all its settings given."""
    slot = trial.user_attrs.get("slot")
    return slot if isinstance(slot, int) else trial.number


def make_sampler(
    search: SearchConfig,
    grid: Sequence[Mapping[str, Label]] = (),
    fixed: int = 1,
    slot_of: SlotOf = slot_of_trial,
) -> BaseSampler:
    """The sampler that search.sampler names.

    Args:
        search: The section `search`.
        grid: Points of the sampler grid; see `grid_points`.
        fixed: How many first slots have settings given: the project's own and the known-good ones. Grid and
            quasi-random points are dealt to the slots after them.
        slot_of: A trial's slot.
    """

    def build(trial: FrozenTrial) -> BaseSampler:
        return _inner(search, grid, fixed, slot_of(trial), int(trial.user_attrs.get("draws", 0)))

    return _SlotSampler(build, search.sampler)


def seed_of(seed: int, slot: int, draws: int = 0) -> int:
    """A seed below 2^32 for one slot, and for each time that its settings are drawn anew.

    Neighbouring slots and seeds share nothing (NumPy's SeedSequence).
    """
    entropy = (seed, slot, draws) if draws else (seed, slot)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class _SlotSampler(BaseSampler):
    """Gives each trial a fresh sampler, kept until the trial ends: a sampler draws key by key."""

    def __init__(self, build: Callable[[FrozenTrial], BaseSampler], name: str) -> None:
        self._build, self._name = build, name
        self._of_trial: dict[int, BaseSampler] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of_trial.pop(trial.number, None)
        self._sampler(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(with_lessons(study, self._name), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(with_lessons(study, self._name), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler(trial).sample_independent(
            with_lessons(study, self._name), trial, param_name, param_distribution
        )

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        sampler = self._sampler(trial)
        del self._of_trial[trial.number]
        sampler.after_trial(study, trial, state, values)

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._of_trial:
            self._of_trial[trial.number] = self._build(trial)
        return self._of_trial[trial.number]


def _inner(search: SearchConfig, grid: Sequence[Mapping[str, Label]], fixed: int, slot: int, draws: int) -> BaseSampler:
    seed = seed_of(search.seed, slot, draws)
    if search.sampler == "grid":
        return GridPoint(grid, slot - fixed)
    if search.sampler == "qmc":
        drawn = sorted(key for key, entry in search.space.items() if isinstance(entry, Dimension))
        return QuasiRandomPoint(drawn, search.seed, max(0, slot - fixed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of TPE's group
        return _OPTUNA[search.sampler](seed)


# Every default that matters is pinned: Optuna changed several of them from 4 to 5.
_OPTUNA: Mapping[str, Callable[[int], BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    # group: conditional keys are modelled together with those that appear with them. constant_liar: workers that run
    # at the same time keep away from each other's settings.
    "tpe": lambda seed: optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        n_ei_candidates=24,
        multivariate=True,
        group=True,
        constant_liar=True,
    ),
    "gp": lambda seed: optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False, warn_independent_sampling=False
    ),
    # Pruned trials are left out: what they were pruned by need not be the objective.
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(
        seed=seed,
        n_startup_trials=1,
        consider_pruned_trials=False,
        use_separable_cma=False,
        with_margin=False,
        lr_adapt=False,
        warn_independent_sampling=False,
    ),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(
        seed=seed, population_size=POPULATION, mutation_prob=None, crossover_prob=0.9, swapping_prob=0.5
    ),
}
