"""The kept results of bases (tracking/base_scores.py), found for the scores that they anchor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.entries import TaskScore
from tunery.tracking.base_scores import EXPERIMENT, KEY
from tunery.tracking.entries_conditions import metrics_of
from tunery.tracking.entries_records import Source
from tunery.tracking.gateway import entity_name
from tunery.tracking.store import Store, refusals

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000


@dataclass(frozen=True)
class KeptBase:
    """One base's result of one task."""

    source: Source
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    def answers(self, source: Source, score: TaskScore) -> bool:
        """Whether a score of `source` stands on this base, asked in the same way; the items are for others to check."""
        if self.params.get("task") != score.task or not self._is_base_of(source):
            return False
        if not _agrees(self.params.get("version", "").partition("+")[0], score.conditions.get("version")):
            return False
        if not _agrees(self.params.get("version", "").partition("+")[2], score.conditions.get("settings")):
            return False
        asked = (self.params.get("few_shot"), self.params.get("chat_template"))
        if not all(map(_agrees, asked, (score.conditions.get("few_shot"), score.conditions.get("chat_template")))):
            return False
        own = self.metrics.get(entity_name(f"lm_eval/{score.task}/{score.metric}"))
        return own is not None and (score.base is None or math.isclose(own, score.base, rel_tol=1e-9, abs_tol=1e-12))

    def _is_base_of(self, source: Source) -> bool:
        mine = self.source
        same = mine.base_revision == source.base_revision if source.base_revision else mine.base == source.base
        return same and _agrees(mine.quantization, source.quantization)


def _agrees(one: str | None, other: str | None) -> bool:
    """Whether two agree as far as both are known."""
    return one in (None, "") or other in (None, "") or one == other


def kept_bases(store: Store) -> list[KeptBase]:
    """Every kept result, newest first.

    Raises:
        TrackingError: If the store does not answer.
    """
    found: list[KeptBase] = []
    with refusals(store.uri):
        experiment = store.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        token = None
        while True:
            page = store.client.search_runs(
                [experiment.experiment_id],
                "attributes.status = 'FINISHED'",
                order_by=["attributes.start_time DESC"],
                max_results=_PAGE,
                page_token=token,
            )
            found += [_kept(run) for run in page if KEY in run.data.tags]
            token = page.token
            if not token:
                return found


def _kept(run: Run) -> KeptBase:
    tags = run.data.tags
    source = Source(
        run_id=run.info.run_id,
        artifact_uri=str(run.info.artifact_uri),
        folder="samples",
        base=tags.get("tunery.base", ""),
        base_revision=tags.get("tunery.base_revision", ""),
        quantization=tags.get("tunery.quantization"),
        is_kept_base=True,
    )
    return KeptBase(source, run.data.params, metrics_of(run))
