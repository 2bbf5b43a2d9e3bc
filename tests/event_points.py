"""What TensorBoard's own reader finds in a folder of event files: every record, also one that stands there twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Point = tuple[str, int, float]


def event_points(folder: Path) -> list[Point]:
    """Name, step and value of each scalar, in the order of the files."""
    return [(value.tag, event.step, value.simple_value) for event in events(folder) for value in event.summary.value]


def events(folder: Path) -> Iterator[Any]:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for file in sorted(folder.iterdir()):
        yield from LegacyEventFileLoader(str(file)).Load()


def mlflow_points(client: Any, run_id: str) -> list[Point]:
    """MLflow's points of the curves, in 32 bits as an event file keeps them."""
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith(("train/", "validation/"))]
    return [
        (name, point.step, float(np.float32(point.value)))
        for name in names
        for point in client.get_metric_history(run_id, name)
    ]
