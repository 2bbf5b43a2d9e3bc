"""An MLflow-tracked experiment registry for fine-tuning language models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.1.0"


def compare(
    *refs: str,
    project: str | Sequence[str] = (),
    experiment: str | Sequence[str] = (),
    study: str | Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    filter: str = "",
    imported: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
    tested: int = 50,
    record: bool = False,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """Rank runs, as `tunery compare` does, for a notebook.

    Values of one argument add up, different arguments narrow, and what is named by `refs` is added. Without any of
    them, all finished runs of the store are compared.

    Args:
        refs: Run ids, runs:/<id>, models:/<name>/<version>, <name>@<alias>.
        project: Names of projects or their folders.
        experiment: Names of MLflow experiments.
        study: Names or run ids of studies, whose trials are compared.
        tags: MLflow tags that must agree.
        filter: MLflow's own filter string: "metrics.score > 0.8".
        imported: Add everything that `tunery import` brought in.
        confidence: Of every interval and every "better".
        seed: Of the permutation tests.
        tested: Configurations at most that are tested against one another, item by item where answers are kept.
        record: Whether the comparison is kept as a run in MLflow.
        tracking_uri: MLflow store; by default MLFLOW_TRACKING_URI, else ./mlflow.db.

    Returns:
        One row a configuration, on each board from the best on.

    Raises:
        tunery.errors.InputError: If nothing matches, or nothing can be ranked.
    """
    from tunery.comparison.compare import compare_frame

    return compare_frame(
        refs,
        project=project,
        experiment=experiment,
        study=study,
        tags=tags or {},
        filter=filter,
        imported=imported,
        confidence=confidence,
        seed=seed,
        tested=tested,
        record=record,
        tracking_uri=tracking_uri,
    )
