"""Two models on the same items: the difference of their scores, with an interval that knows how few items there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.records import TaskResult

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Results = Mapping[str, TaskResult]
_PASSAGE = "passage"


@dataclass(frozen=True)
class _Stratum:
    """Items that count alike.

    Args:
        weight: Their share of the score; all strata's shares add up to 1.
        rival, candidate: Values on each item, greater being better, shape (items,).
        passages: The text that each item asks about, where items share texts; None where they do not.
    """

    weight: float
    rival: np.ndarray
    candidate: np.ndarray
    passages: np.ndarray | None = None


def compare(rival: Results, candidate: Results, metrics: Mapping[str, str], confidence: float) -> Difference | None:
    """The difference of two models' mean scores over tasks, paired item by item.

    The interval is the t interval of the paired differences after one item that the candidate wins and one that it
    loses were added to each stratum. Plain intervals have no width where all answers agree: eight equal answers would
    prove that nothing was lost. With the two added, it reaches about 2.8 / n to each side. Where items share a
    passage, errors are clustered by it.

    Source: Bonett and Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, J. Educ. Behav. Stat. 37(4); Miller (2024), Adding error bars to evals, arXiv:2411.00640 (clusters).

    Args:
        rival, candidate: Results by task, with the items' values.
        metrics: The metric of each task; tasks count alike.
        confidence: Of the two-sided interval.

    Returns:
        The difference; None where a metric is no mean over items, or no item of a task was answered by both.
    """
    parts = [_strata(rival, candidate, task, metric, 1 / len(metrics)) for task, metric in metrics.items()]
    if not parts or not all(parts):
        return None
    strata = [stratum for part in parts for stratum in part]
    before, after = (_score(strata, side) for side in ("rival", "candidate"))
    low, high = _interval(strata, confidence)
    items = sum(len(stratum.rival) for stratum in strata)
    passages = min((len(set(stratum.passages)) for stratum in strata if stratum.passages is not None), default=None)
    return Difference(after, before, after - before, low, high, items, passages)


def _strata(rival: Results, candidate: Results, task: str, metric: str, share: float) -> list[_Stratum]:
    """One stratum, or one a leaf task where the leaf tasks of a group count alike whatever their sizes."""
    from tunery.evaluation.result import averaging, pair_items

    if task not in rival or task not in candidate:
        return []
    how = averaging(candidate[task], metric)
    both = pair_items(rival[task].samples, candidate[task].samples, metric)
    if how is None or both.empty:
        return []
    sign = 1.0 if candidate[task].scores[metric].higher_is_better else -1.0
    both[_PASSAGE] = _passages(candidate[task].samples, both)
    groups = [part for _, part in both.groupby("task")] if how == "tasks" else [both]
    return [_stratum(part, sign, share / len(groups)) for part in groups]


def _stratum(both: pd.DataFrame, sign: float, weight: float) -> _Stratum:
    before, after = (sign * both[side].to_numpy(float) for side in ("base", "tuned"))
    shared = both[_PASSAGE].duplicated().any()
    return _Stratum(weight, before, after, both[_PASSAGE].to_numpy(str) if shared else None)


def _passages(samples: pd.DataFrame, both: pd.DataFrame) -> pd.Series:
    """The passage of each pair; an item that has none is one of its own."""
    own = both["item_id"].astype(str) + "#" + both["nth"].astype(str)
    if _PASSAGE not in samples:
        return own
    known = samples.drop_duplicates("item_id").set_index("item_id")[_PASSAGE]
    return both["item_id"].map(known).fillna(own).astype(str)


def _score(strata: Sequence[_Stratum], side: str) -> float:
    return float(sum(stratum.weight * getattr(stratum, side).mean() for stratum in strata))


def _interval(strata: Sequence[_Stratum], confidence: float) -> tuple[float, float]:
    """Normal over strata, but with the t quantile of the smallest of them, which is never too narrow."""
    from scipy import stats

    moments = [_adjusted(stratum) for stratum in strata]
    centre = sum(stratum.weight * mean for stratum, (mean, _, _) in zip(strata, moments, strict=True))
    variance = sum((stratum.weight * error) ** 2 for stratum, (_, error, _) in zip(strata, moments, strict=True))
    freedom = min(count for _, _, count in moments) - 1
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * variance**0.5
    return centre - reach, centre + reach


def _adjusted(stratum: _Stratum) -> tuple[float, float, int]:
    """Mean, standard error and number of independent parts of the differences, the won and the lost item added."""
    import numpy as np
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.weightstats import DescrStatsW

    differences = stratum.candidate - stratum.rival
    unit = max(1.0, float(np.abs(differences).max()))  # a whole item's worth; more only for metrics above 1
    values = np.concatenate([differences, [unit, -unit]])
    if stratum.passages is None:
        told = DescrStatsW(values)
        return float(told.mean), float(told.std_mean), len(values)
    texts, of_item = np.unique(stratum.passages, return_inverse=True)
    groups = np.concatenate([of_item, [len(texts), len(texts) + 1]])
    fitted = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    return float(fitted.params[0]), float(fitted.bse[0]), len(texts) + 2


@dataclass(frozen=True)
class Difference:
    """Candidate minus rival on the same locked items; greater is better, whatever the metric's own direction.

    Args:
        candidate, rival: Their means over those items, with the sign turned where less of the metric is better.
        value: The paired difference; `low` and `high` bound it at the rules' confidence.
        items: Pairs.
        passages: Texts that the items ask about, where they share texts; the fewest of any task. None elsewhere.
    """

    candidate: float
    rival: float
    value: float
    low: float
    high: float
    items: int
    passages: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a number to judge: not one item without a score is in it."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))
