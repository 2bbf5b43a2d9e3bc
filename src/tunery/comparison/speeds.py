"""How fast models write, from runs of kind `speed`, joined to the entries of the same models."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunery.comparison.entries import RunEntry, Speed, Timed
from tunery.runs.speed.command import KIND
from tunery.tracking.run import EVALUATED_MODEL
from tunery.tracking.search import FINISHED, is_tagged, search_runs
from tunery.tracking.store import Store

if TYPE_CHECKING:
    from tunery.tracking.search import Run

_BATCH = re.compile(r"(base/)?speed/batch_(\d+)/tokens_per_second")

_FORM = ("quantization", "double_quantization", "dtype", "compute_dtype", "weights")


@dataclass
class KnownSpeeds:
    """Speeds by the model that they are of, the latest of each kind."""

    by_model: dict[str, list[Speed]] = field(default_factory=lambda: defaultdict(list))  # by the logged model's id
    by_configuration: dict[str, list[Speed]] = field(default_factory=lambda: defaultdict(list))
    # By base, revision and form: a base's own, whichever tuned model it was measured beside.
    by_base: dict[tuple[str, ...], list[Speed]] = field(default_factory=lambda: defaultdict(list))

    def of(self, entry: RunEntry) -> list[Speed]:
        """Those of an entry's model."""
        if entry.method == "none":
            return _latest(self.by_base.get((entry.base, entry.base_revision, *entry.base_form), ()))
        models = [*entry.models, *([entry.evaluated] if entry.evaluated else [])]
        found = [speed for model in models for speed in self.by_model.get(model, ())]
        found += self.by_configuration.get(entry.configuration, ())
        return _latest(found)


def known_speeds(runs: Sequence[Run], configuration_of: Callable[[Run], str]) -> KnownSpeeds:
    """All speeds of a store.

    Args:
        runs: From `speed_runs`.
        configuration_of: Gives a run's configuration as entries have it, for models that MLflow does not hold.
    """
    known = KnownSpeeds()
    for run in runs:
        tags, bare = run.data.tags, run.data.tags.get("tunery.method") == "none"
        own = list(_speeds(run, "speed"))
        base = (tags.get("tunery.base", ""), tags.get("tunery.base_revision", ""), *base_form(run.data.params))
        known.by_base[base] += own if bare else _speeds(run, "base/speed")
        if bare:
            continue
        if tags.get(EVALUATED_MODEL):
            known.by_model[tags[EVALUATED_MODEL]] += own
        else:
            known.by_configuration[configuration_of(run)] += own
    return known


def base_form(params: Mapping[str, str]) -> tuple[str, ...]:
    """How a run's base is loaded, as far as it decides how fast the base writes."""
    return tuple(params.get(f"cfg.base.{key}", "") for key in _FORM)


def speed_runs(store: Store) -> Sequence[Run]:
    """Finished runs of kind speed, newest first."""
    return list(search_runs(store, is_tagged("tunery.kind", KIND), FINISHED))


def with_speeds(entries: Sequence[RunEntry], known: KnownSpeeds) -> list[RunEntry]:
    """The same entries with the speeds of their models."""
    return [replace(entry, speeds=tuple(known.of(entry))) for entry in entries]


def _speeds(run: Run, prefix: str) -> list[Speed]:
    metrics, params = run.data.metrics, run.data.params
    batches = [
        int(found[2]) for name in metrics if (found := _BATCH.fullmatch(name)) and (found[1] or "") + "speed" == prefix
    ]
    return [
        Speed(
            device=run.data.tags.get("tunery.device", "unknown"),
            prompt_tokens=int(params.get("speed.prompt_tokens", 0)),
            new_tokens=int(params.get("speed.new_tokens", 0)),
            batch=batch,
            first_token_seconds=_timed(metrics, f"{prefix}/batch_{batch}/first_token_seconds"),
            tokens_per_second=_timed(metrics, f"{prefix}/batch_{batch}/tokens_per_second"),
            peak_memory_bytes=metrics[f"{prefix}/batch_{batch}/peak_memory_bytes"],
            load_seconds=metrics[f"{prefix}/load_seconds"],
        )
        for batch in sorted(batches)
    ]


def _timed(metrics: Mapping[str, float], key: str) -> Timed:
    return Timed(metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])


def _latest(speeds: Sequence[Speed]) -> list[Speed]:
    """The first of each device, request and batch size: runs come newest first."""
    found: dict[object, Speed] = {}
    for speed in speeds:
        found.setdefault((speed.conditions, speed.batch), speed)
    return list(found.values())
