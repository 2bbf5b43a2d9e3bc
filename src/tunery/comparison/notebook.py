"""`tunery.compare(...)`: a comparison as a pandas DataFrame, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.comparison.compare import CompareOptions, compare_runs, frame_of
from tunery.comparison.selection import selected
from tunery.runs.observer import SilentObserver

if TYPE_CHECKING:
    import pandas as pd


def compare_frame(
    refs: Sequence[str],
    *,
    project: str | Sequence[str],
    experiment: str | Sequence[str],
    study: str | Sequence[str],
    tags: Mapping[str, str],
    filter: str,
    imported: bool,
    confidence: float,
    seed: int,
    tested: int,
    record: bool,
    tracking_uri: str | None,
) -> pd.DataFrame:
    """See `tunery.compare`."""
    selection = selected(
        refs,
        projects=_several(project),
        experiments=_several(experiment),
        studies=_several(study),
        tags=tuple(tags.items()),
        filter=filter,
        imported=imported,
    )
    options = CompareOptions(confidence, seed, tested, curves=record, record=record)
    return frame_of(compare_runs(selection, options, SilentObserver(), tracking_uri=tracking_uri))


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else tuple(value)
