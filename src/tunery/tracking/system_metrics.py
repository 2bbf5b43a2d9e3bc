"""How busy the machine is while a run lasts: processor, memory, disk, network and cards, as MLflow names them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SAMPLE_SECONDS = 10.0  # MLflow's own; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL sets another


class SystemMetrics(SystemMetricsMonitor):  # type: ignore[misc]  # MLflow's has no types
    """MLflow's monitor, with samples that travel with the points of the curves.

    MLflow's own reads the whole run from the store before each sample and sends the sample by itself, which took a
    tenth of a small run's processor time. A run that is shorter than the interval has one sample, of its end.

    Args:
        run_id: The run; one that is resumed goes on counting its samples.
        post: Takes points and sends them some time.
        uri: Of the store.
    """

    def __init__(self, run_id: str, post: Callable[[Sequence[Metric]], None], uri: str, *, resumed: bool) -> None:
        super().__init__(run_id, SAMPLE_SECONDS, resume_logging=resumed, tracking_uri=uri)
        self._post = post

    def monitor(self) -> None:
        """The thread's work, until `finish`."""
        while not self._shutdown_event.wait(self.sampling_interval):
            self._sample()
        if self._logging_step == 0:
            self._sample()

    def _sample(self) -> None:
        self.collect_metrics()
        self.publish_metrics(self.aggregate_metrics())

    def publish_metrics(self, metrics: Mapping[str, float]) -> None:
        """Post a sample."""
        prefix = f"system/{self.node_id}/" if self.node_id else "system/"
        now, step = int(time.time() * 1000), self._logging_step
        self._post([Metric(f"{prefix}{name}", value, now, step) for name, value in metrics.items()])
        self._logging_step += 1
        for part in self.monitors:
            part.clear_metrics()
