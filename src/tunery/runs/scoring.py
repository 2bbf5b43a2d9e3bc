"""Scores of the base and of the tuned model, on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunery.config.evaluation import EvaluationConfig
from tunery.records import TaskResult

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.base import LoadedBase
    from tunery.tracking.store import Store

Results = Mapping[str, TaskResult]


def base_results(store: Store, base: LoadedBase, tasks: Tasks, evaluation: EvaluationConfig) -> dict[str, TaskResult]:
    """The base's own results: looked up in MLflow, and computed and kept there only where they are missing.

    Args:
        base: The loaded base, before or without an adapter.
        tasks: Loaded tasks.
        evaluation: The section `evaluation`.
    """
    from tunery.evaluation.base_key import base_key
    from tunery.evaluation.score import score_model
    from tunery.tracking import base_scores

    keys = {name: base_key(base.identity, settings) for name, settings in tasks.settings.items()}
    known = {name: base_scores.find(store, key) for name, key in keys.items()}
    found = {name: _as_asked(result, tasks, evaluation) for name, result in known.items() if result is not None}
    missing = [name for name in keys if name not in found]
    if missing:
        fresh = score_model(base.model, base.tokenizer, only(tasks, missing), evaluation)
        for name in missing:
            if name in fresh:
                base_scores.keep(store, keys[name], base.identity, fresh[name])
                found[name] = fresh[name]
    return {name: found[name] for name in keys if name in found}


def _as_asked(result: TaskResult, tasks: Tasks, evaluation: EvaluationConfig) -> TaskResult:
    """With this project's split and primary metric: the kept result may be of a project with others."""
    from tunery.evaluation.items import split_of

    splits = [split_of(item, evaluation.dev_fraction) for item in result.samples["item_id"]]
    primary = tasks.primary[result.settings.task]
    return replace(result, samples=result.samples.assign(split=splits), primary=primary)


def only(tasks: Tasks, names: Sequence[str]) -> Tasks:
    """The tasks, without the leaves that none of the names needs, and without groups that would then be incomplete.

    What was tokenised and built for the one serves the other.
    """
    needed = {leaf for name in names for leaf in tasks.members.get(name, (name,))}
    if needed == set(tasks.leaves):
        return tasks  # the same object: what it keeps of tokens serves the next scoring too
    members = {name: leaves for name, leaves in tasks.members.items() if needed.issuperset(leaves)}
    return replace(
        tasks,
        leaves={name: leaf for name, leaf in tasks.leaves.items() if name in needed},
        members=members,
        groups={name: group for name, group in tasks.groups.items() if name in members},
    )


def primary_metrics(tasks: Tasks, evaluation: EvaluationConfig) -> dict[str, str]:
    """The metric of each task that counts towards the run's score."""
    return {name: tasks.primary[name] for name in (evaluation.primary or tasks.names)}


def on_split(results: Results, split: Split) -> dict[str, TaskResult]:
    """Results on the items of one split; "all" leaves them as they are."""
    from tunery.evaluation.result import restrict

    return dict(results) if split == "all" else {name: restrict(result, split) for name, result in results.items()}
