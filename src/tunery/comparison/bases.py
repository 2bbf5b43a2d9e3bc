"""Results of bases that MLflow keeps, and which of them a run's score is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tunery.comparison.conditions import metrics_of
from tunery.comparison.entries import SamplesLocation, TaskScore
from tunery.tracking.base_scores import EXPERIMENT, KEY
from tunery.tracking.entities import entity_name
from tunery.tracking.search import FINISHED, experiments, search_runs
from tunery.tracking.store import Store


@dataclass(frozen=True)
class KeptBase:
    """One base's result of one task, as `tracking.base_scores` keeps it."""

    location: SamplesLocation
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    def fits(self, location: SamplesLocation, score: TaskScore) -> bool:
        """Whether this is the base of a run's score, under the same conditions; the items are not checked."""
        mine, kept = self.params, self.location
        same = kept.base_revision == location.base_revision if location.base_revision else kept.base == location.base
        if mine.get("task") != score.task or not same or not _agree(kept.quantization, location.quantization):
            return False
        version, _, settings = mine.get("version", "").partition("+")
        mine = {**mine, "version": version, "settings": settings}
        asked = ("version", "settings", "few_shot", "chat_template")
        if not all(_agree(mine.get(key), score.conditions.get(key)) for key in asked):
            return False
        own = self.metrics.get(entity_name(f"lm_eval/{score.task}/{score.metric}"))
        return own is not None and (score.base is None or math.isclose(own, score.base, rel_tol=1e-9, abs_tol=1e-12))


def _agree(one: str | None, other: str | None) -> bool:
    """Whether two values agree, or one is unknown."""
    return one in (None, "") or other in (None, "") or one == other


def kept_bases(store: Store) -> list[KeptBase]:
    """Every kept result of a base, newest first."""
    place = experiments(store).get(EXPERIMENT)
    runs = search_runs(store, FINISHED, within=[place]) if place is not None else ()
    found = []
    for run in runs:
        tags, uri = run.data.tags, str(run.info.artifact_uri)
        if KEY in tags:
            base, revision = tags.get("tunery.base", ""), tags.get("tunery.base_revision", "")
            quantization = tags.get("tunery.quantization")
            location = SamplesLocation(run.info.run_id, uri, "samples", base, revision, quantization)
            found.append(KeptBase(location, run.data.params, metrics_of(run)))
    return found
