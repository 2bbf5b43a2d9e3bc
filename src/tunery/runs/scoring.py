"""Scores of the base, of the tuned model and of its checkpoints, all on the same items."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from tunery.config.evaluation import EvaluationConfig
from tunery.records.runs import BaseIdentity, Trained
from tunery.records.scores import TaskResult, TaskSettings
from tunery.runs.cache import Loaded

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.base import LoadedBase
    from tunery.models.start import StartAdapter
    from tunery.tracking.store import Store

# Offloaded layers are not quantised, and each device adds up in an order of its own.
_DECIDING_DETAILS = ("double_quantization", "template_sha256", "offloaded")

Results = Mapping[str, TaskResult]


class KeptScores(Protocol):
    """Where results of bases are kept: in MLflow's store, or with a process that is asked for them."""

    def find(self, key: str) -> TaskResult | None:
        """The result under a key; None if there is none."""

    def keep(self, key: str, identity: BaseIdentity, result: TaskResult, start: str | None = None) -> None:
        """Keep a result under a key; `start` names the adapter that was on the base."""


def own_scores(loaded: Loaded, split: Split = "all") -> dict[str, TaskResult]:
    """The results of the model itself: with its adapter, or after its context."""
    from tunery.evaluation.score import score_model

    return score_model(loaded.model, loaded.tokenizer, loaded.asked, loaded.project.evaluation, split=split)


def base_scores(loaded: Loaded, store: Store, split: Split = "all") -> dict[str, TaskResult]:
    """The base's results: looked up in MLflow, computed only where they are missing."""
    from tunery.evaluation.eval_mode import adapter_off
    from tunery.tracking.base_scores import StoredScores

    with adapter_off(loaded.model):
        results = base_results(StoredScores(store), loaded.base, loaded.tasks, loaded.project.evaluation)
    return on_split(results, split)


def base_results(
    scores: KeptScores, base: LoadedBase, tasks: Tasks, evaluation: EvaluationConfig
) -> dict[str, TaskResult]:
    """As `base_scores`, on all items, of a base that has no adapter now; what is missing is computed and kept there."""
    from tunery.evaluation.score import score_model

    keys = {name: base_key(base.identity, settings) for name, settings in tasks.settings.items()}

    def score(missing: Tasks) -> Results:
        return score_model(base.model, base.tokenizer, missing, evaluation)

    return _kept_or_scored(scores, keys, base.identity, tasks, evaluation, score)


def parent_scores(loaded: Loaded, store: Store, split: Split = "all") -> dict[str, TaskResult]:
    """Results of the adapter that training begins with, which is on the base now; none if it begins with a new one.

    What the run that trained it recorded is taken, and what was kept before, as the base's is; the rest is computed.
    """
    from tunery.tracking.base_scores import StoredScores

    start, tasks, identity = loaded.start, loaded.tasks, loaded.base.identity
    if start is None:
        return {}
    own = _recorded(start, loaded, store)
    keys = {name: base_key(identity, tasks.settings[name], start.digest) for name in tasks.names if name not in own}

    def score(missing: Tasks) -> Results:
        return own_scores(replace(loaded, tasks=missing))

    scores = StoredScores(store)
    kept = _kept_or_scored(scores, keys, identity, tasks, loaded.project.evaluation, score, start.named)
    return on_split({**own, **kept}, split)


def _recorded(start: StartAdapter, loaded: Loaded, store: Store) -> dict[str, TaskResult]:
    """What the run of a logged adapter recorded over the same base, on the same items asked alike."""
    from tunery.evaluation.samples import items_digest
    from tunery.tracking.base_scores import find_in_run

    if start.model_id is None or start.run_id is None or start.identity is None:
        return {}
    if deciding(start.identity) != deciding(loaded.base.identity):
        return {}
    tasks, found = loaded.tasks, {}
    for name in tasks.names:
        items = items_digest(item for leaf in tasks.members.get(name, (name,)) for item in tasks.leaves[leaf].item_ids)
        result = find_in_run(store, start.run_id, tasks.settings[name], items, tasks.primary[name])
        if result is not None:
            found[name] = _as_now(result, tasks, loaded.project.evaluation)
    return found


def _kept_or_scored(
    scores: KeptScores,
    keys: Mapping[str, str],
    identity: BaseIdentity,
    tasks: Tasks,
    evaluation: EvaluationConfig,
    score: Callable[[Tasks], Results],
    start: str | None = None,
) -> dict[str, TaskResult]:
    """Results by task: those that are kept under their keys; what is missing is computed and kept."""
    found: dict[str, TaskResult] = {}
    for name, key in keys.items():
        kept = tasks.looked_up.get(key) or scores.find(key)
        if kept is not None:
            tasks.looked_up[key] = kept
            found[name] = _as_now(kept, tasks, evaluation)
    missing = [name for name in keys if name not in found]
    if missing:
        fresh = score(tasks.only(missing))
        for name in missing:
            if name in fresh:
                scores.keep(keys[name], identity, fresh[name], start)
                found[name] = fresh[name]
    return {name: found[name] for name in keys if name in found}


def _as_now(kept: TaskResult, tasks: Tasks, evaluation: EvaluationConfig) -> TaskResult:
    """A kept result, perhaps of a project with another split and other primary metrics."""
    from tunery.evaluation.items import split_of

    splits = [split_of(item, evaluation.dev_fraction) for item in kept.samples["item_id"]]
    return replace(kept, samples=kept.samples.assign(split=splits), primary=tasks.primary[kept.settings.task])


def base_key(identity: BaseIdentity, settings: TaskSettings, adapter: str | None = None) -> str:
    """First 16 hex digits of the SHA-256 of all that decides a score on a task: of a base, or of an adapter on it.

    That is model, revision, quantisation, dtype, compute dtype and chat template of the base; task, version, few-shot,
    limit and template of the task. The license and most details of an identity decide nothing, and neither does the
    name of a folder, whose revision is a hash of its files: one project may say "base", another the absolute path.

    Args:
        adapter: Digest of the adapter's weights.
    """
    base = deciding(identity)
    # Two are in the version; most tasks have no wording of the model's.
    left_out = {"prompt", "members"} | (set() if settings.wording else {"wording"})
    task = {key: value for key, value in asdict(settings).items() if key not in left_out}
    parts = {"base": base, "task": task} | ({} if adapter is None else {"adapter": adapter})
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def deciding(identity: BaseIdentity) -> dict[str, object]:
    """All of a base's identity that decides what it answers."""
    ignored = {"license", "details"} | ({"model"} if identity.revision.startswith("sha256:") else set())
    base = {key: value for key, value in asdict(identity).items() if key not in ignored}
    return base | {key: identity.details[key] for key in _DECIDING_DETAILS if key in identity.details}


def on_split(results: Results, split: Split) -> dict[str, TaskResult]:
    """Results on the items of one split; "all" leaves them as they are."""
    from tunery.evaluation.result import restrict

    return dict(results) if split == "all" else {name: restrict(result, split) for name, result in results.items()}


@dataclass
class CheckpointScores:
    """Scores checkpoints on the dev items of the tasks that count, and keeps the results.

    If all tasks count, a trial's own results are those of the kept checkpoint, and need not be measured again.
    """

    loaded: Loaded
    results: list[Results] = field(default_factory=list)

    def __call__(self) -> float:
        """The score of the model as it is now."""
        from tunery.evaluation.result import headline

        evaluation, tasks = self.loaded.project.evaluation, self.loaded.tasks
        self.results.append(own_scores(replace(self.loaded, tasks=tasks.only(tasks.counting(evaluation))), "dev"))
        value = headline(self.results[-1], evaluation)
        return math.nan if value is None else value

    def of_kept(self, trained: Trained) -> Results | None:
        """All results of the kept checkpoint; None if tasks are missing, another was scored, or weights were cast."""
        steps = [metrics.step for metrics in trained.history if "validation/score" in metrics.values]
        own = dict(zip(reversed(steps), reversed(self.results), strict=False))
        kept = own.get(trained.kept_step)
        whole = kept is not None and set(kept) == set(self.loaded.tasks.settings)
        return kept if whole and self.loaded.project.adapter.method != "full" else None
