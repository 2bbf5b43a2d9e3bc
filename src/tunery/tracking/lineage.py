"""What a model was trained on, from its first data to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunery.tracking.store import Store

DATASETS = "tunery.datasets"  # what a run itself trained on
LINEAGE = "tunery.lineage"  # of a run that began with an adapter: that one's data before its own


def lineage(store: Store, run_id: str | None) -> str:
    """The data of the model that a run trained, a parent's first: "facts.jsonl → comparison.jsonl"; "" if unknown."""
    run = store.found(store.client.get_run, run_id) if run_id else None
    tags = run.data.tags if run is not None else {}
    return str(tags.get(LINEAGE) or tags.get(DATASETS, ""))


def extended(parent: str, datasets: str) -> str:
    """The lineage of a model that was trained on from one with the lineage `parent`, which may be unknown: ""."""
    return f"{parent or 'unknown data'} → {datasets}"
