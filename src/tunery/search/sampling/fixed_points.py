"""Samplers whose trial's whole point is known beforehand: of a grid, or of a quasi-random sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from tunery.errors import ConfigError, Fault
from tunery.search.space.parameters import Label


class _Point(BaseSampler):
    """Knows its trial's whole point beforehand, where Optuna's own keep a counter that two workers race for."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}


class GridPoint(_Point):
    """A point of a grid, by its place in it."""

    def __init__(self, grid: Sequence[Mapping[str, Label]], index: int) -> None:
        self._grid = grid
        self._index = index

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The point's value of a key.

        Raises:
            ConfigError: If the grid has no such point.
        """
        if not 0 <= self._index < len(self._grid):
            rule = f"at most the {len(self._grid)} points of the grid and the settings given"
            raise ConfigError("search", Fault("search.trials", rule, advice="Lower it, or use another sampler."))
        return self._grid[self._index][param_name]


class QuasiRandomPoint(_Point):
    """A point of a scrambled Sobol sequence. Source: Bergstra and Bengio, JMLR 13 (2012)."""

    def __init__(self, keys: Sequence[str], seed: int, index: int) -> None:
        from scipy.stats import qmc

        engine = qmc.Sobol(len(keys), scramble=True, rng=np.random.default_rng(seed))
        if index:
            engine.fast_forward(index)
        self._at: dict[str, float] = dict(zip(keys, engine.random(1)[0].tolist(), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value at the point's coordinate of a key."""
        return value_at_quantile(param_distribution, self._at[param_name])


def value_at_quantile(distribution: BaseDistribution, quantile: float) -> Any:
    """The value of a uniform distribution below which this share of it lies, in [0, 1)."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(quantile * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    whole = isinstance(distribution, IntDistribution)
    if distribution.log:
        # Half a step on either side, so that the smallest and the largest whole number get their full share.
        margin = 0.5 if whole else 0.0
        start, end = math.log(low - margin), math.log(high + margin)
        value = math.exp(start + quantile * (end - start))
        return min(max(round(value), low), high) if whole else min(max(value, low), high)
    if step is None:
        return low + quantile * (high - low)
    value = low + int(quantile * (round((high - low) / step) + 1)) * step
    return int(value) if whole else min(value, high)
