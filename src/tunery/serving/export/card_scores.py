"""The scores of a model card: on locked items, if the run has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tunery.comparison.entries import RunEntry
    from tunery.tracking.run_facts import RunFacts
    from tunery.tracking.store import Store

ScoredOn = Literal["all", "locked", "chosen"]


@dataclass(frozen=True)
class CardScore:
    """A task's score beside its base's; None if unknown."""

    task: str
    metric: str
    value: float
    stderr: float | None = None
    base: float | None = None
    base_stderr: float | None = None
    delta_stderr: float | None = None


def scores_of(metrics: Mapping[str, float], shown: Sequence[str] = (), kind: str = "lm_eval") -> list[CardScore]:
    """A run's metrics lm_eval/<task>/<metric> beside base/<task>/<metric>, with their errors.

    Args:
        metrics: The run's metrics.
        shown: Tasks to put first, in this order.
        kind: lm_eval, or locked, which the base's metrics are not measured on.
    """
    found = []
    for key, value in metrics.items():
        prefix, _, rest = key.partition("/")
        task, slash, metric = rest.rpartition("/")
        if prefix != kind or not slash or metric.endswith("_stderr") or not math.isfinite(value):
            continue
        score = CardScore(task, metric, value, _finite(metrics.get(f"{key}_stderr")))
        found.append(score if kind == "locked" else _beside_base(score, metrics))
    order = {task: place for place, task in enumerate(shown)}
    return sorted(found, key=lambda score: (order.get(score.task, len(order)), score.task, score.metric))


def card_scores(run: RunFacts, store: Store) -> tuple[list[CardScore], ScoredOn]:
    """A run's scores for its card, and their items: all, locked, or those that the model was chosen on."""
    evaluation = run.config.get("evaluation", {})
    shown = list(evaluation.get("primary", {}))
    locked = scores_of(run.metrics, shown, "locked")
    if locked:
        return _beside_locked_base(locked, run, store), "locked"
    chosen = run.tags.get("tunery.kind") == "trial" or run.config.get("training", {}).get("keep_best_by") == "score"
    return scores_of(run.metrics, shown), "chosen" if chosen else "all"


def _beside_base(score: CardScore, metrics: Mapping[str, float]) -> CardScore:
    rest = f"{score.task}/{score.metric}"
    base, base_stderr, delta_stderr = (
        _finite(metrics.get(key)) for key in (f"base/{rest}", f"base/{rest}_stderr", f"delta/{rest}_stderr")
    )
    return replace(score, base=base, base_stderr=base_stderr, delta_stderr=delta_stderr)


def _beside_locked_base(scores: Sequence[CardScore], run: RunFacts, store: Store) -> list[CardScore]:
    """Add the base's score on the same items, if its answers are kept: the run logged it on others."""
    entry = _answers(run, store)
    return [score if entry is None else _paired(score, entry) for score in scores]


def _answers(run: RunFacts, store: Store) -> RunEntry | None:
    """The run as a comparison reads it, with its own and its base's answers."""
    from tunery.comparison.read import read
    from tunery.comparison.samples import with_answers
    from tunery.comparison.selection import Selection
    from tunery.errors import InputError

    try:
        entries, _ = read(store, Selection(runs=(str(run.run_id),)))
        return with_answers(store, entries)[0]
    except InputError:  # no score that can be compared
        return None


def _paired(score: CardScore, entry: RunEntry) -> CardScore:
    from tunery.evaluation.result import averaging_of
    from tunery.statistics.paired import paired_stderr

    known = entry.tasks.get(score.task)
    if known is None or known.metric != score.metric or known.base is None or score.task not in entry.base_samples:
        return score
    own, base = entry.samples[score.task], entry.base_samples[score.task]
    averaging = averaging_of(own, score.metric, score.value) or "tasks"
    error = paired_stderr(base, own, score.metric, averaging)
    return replace(score, base=known.base, base_stderr=_finite(known.base_stderr), delta_stderr=error)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
