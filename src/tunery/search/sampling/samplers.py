"""How a trial's settings are drawn: the same trial of a study draws the same, in any process, however often resumed.

Optuna's samplers hold random state, so that what is drawn depends on what the process drew before. Here each trial gets
a sampler of its own, seeded by the study's seed and the trial's number; what it learns, it reads from the storage.
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

from tunery.config.search import SearchConfig
from tunery.search.sampling.failed_trials import with_failed_trials
from tunery.search.space.space import QUEUE_KEY

# Trials at random before a model of the space is trusted. Optuna's 10 is half of a study of 20.
STARTUP_TRIALS = 5
# Optuna's 50 would leave a study of 20 trials in its first, random generation.
POPULATION = 10


def make_sampler(search: SearchConfig) -> BaseSampler:
    """The sampler that search.sampler names."""
    return _PerTrialSampler(search)


def seed_of(seed: int, number: int, draws: int = 0) -> int:
    """A seed below 2^32 for one trial, and for each time that its settings are drawn anew.

    Neighbouring trials and seeds share nothing (NumPy's SeedSequence).
    """
    entropy = (seed, number, draws) if draws else (seed, number)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class _PerTrialSampler(BaseSampler):
    """Gives each trial a fresh sampler, kept until the trial ends: a sampler draws key by key."""

    def __init__(self, search: SearchConfig) -> None:
        self._search = search
        self._of_trial: dict[int, BaseSampler] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of_trial.pop(trial.number, None)
        self._sampler(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler(trial).sample_independent(self._seen(study), trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        sampler = self._sampler(trial)
        del self._of_trial[trial.number]
        sampler.after_trial(study, trial, state, values)

    def _seen(self, study: Study) -> Study:
        return with_failed_trials(study, self._search.sampler)

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._of_trial:
            key = trial.user_attrs.get(QUEUE_KEY)
            # One without a number draws nothing (finals), or is the user's own in optuna-dashboard and is not run.
            number = key if isinstance(key, int) else trial.number
            seed = seed_of(self._search.seed, number, int(trial.user_attrs.get("draws", 0)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # of TPE's group
                self._of_trial[trial.number] = _OPTUNA[self._search.sampler](seed)
        return self._of_trial[trial.number]


# Every default that matters is pinned: Optuna changed several of them from 4 to 5.
_OPTUNA: Mapping[str, Callable[[int], BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    # Their trials are queued with their whole point, so that nothing is left to draw.
    "grid": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.RandomSampler,
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
