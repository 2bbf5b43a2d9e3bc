"""What a run has to tell a server that may be slow or away: sent in the background, kept until it arrives."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.errors import Fault, TrackingError
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A point waits this long for company. At 20 steps a second one request carries 20 steps.
SEND_EVERY_SECONDS = 1.0
# After a failure nothing is tried for so long: a run must not stand still at every line that it wants to log.
REST_SECONDS = 5.0
_POINTS_A_REQUEST = 500  # MLflow takes 1000


@dataclass(frozen=True)
class MetricValue:
    """One value of a curve. `step` is the optimizer step; model and dataset link a score to what it is a score of."""

    key: str
    value: float
    step: int
    timestamp_ms: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True)
class Delivery:
    """Something other than a point that is to reach the server; `send` may be called again after it failed."""

    what: str
    send: Callable[[MlflowClient], None]


class RetryQueue:
    """Points and deliveries of one run on their way.

    Points never block: a thread sends them in batches. A delivery is sent at once; when the server is away it is kept
    and sent later, in order. Sending a point twice is harmless: MLflow's key of a point is all of its values.

    Args:
        client: Client of the store.
        run_id: The run.
        folder: Where points that cannot be sent are written; made only then.
    """

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self._client, self._run_id, self.folder = client, run_id, folder
        self._points: list[MetricValue] = []
        self._kept: list[Delivery] = []
        self._lock = threading.RLock()  # guards the two lists
        self._sending = threading.Lock()  # one batch at a time: a second would send the same points
        self._wake = threading.Event()
        self._closing = False
        self._away_since: float | None = None
        self._refused: TrackingError | None = None
        self._thread = threading.Thread(target=self._work, name="tunery-retry-queue", daemon=True)
        self._thread.start()

    def post(self, points: Sequence[MetricValue]) -> None:
        """Take points; they are sent within about a second."""
        with self._lock:
            self._points.extend(points)
        if len(self._points) >= _POINTS_A_REQUEST:
            self._wake.set()

    def deliver(self, delivery: Delivery) -> None:
        """Send now, or keep for later if the server is away.

        Raises:
            TrackingError: If the server refuses what it was given.
        """
        if not self.resting():
            try:
                self._attempt(delivery)
                return
            except ServerAwayError:
                pass
        with self._lock:
            self._kept.append(delivery)

    def flush(self) -> bool:
        """Try to send all that waits.

        Returns:
            Whether nothing waits any more.

        Raises:
            TrackingError: If the server refused a point.
        """
        with self._sending:
            try:
                self._send_points()
                self._send_kept()
            except ServerAwayError:
                self._write_down()
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused
        return not self.waiting()

    def close(self, patience_seconds: float) -> list[str]:
        """Stop the thread and send the rest, trying again for `patience_seconds`.

        Returns:
            What could not be sent; empty when all arrived.
        """
        self._closing = True
        self._wake.set()
        self._thread.join()
        until = time.monotonic() + patience_seconds
        while not self.flush() and time.monotonic() < until:
            time.sleep(min(1.0, patience_seconds))
        if not self.waiting():
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.waiting()

    def waiting(self) -> list[str]:
        """What has not arrived, in words."""
        with self._lock:
            points = [f"{len(self._points)} points of the curves"] if self._points else []
            return [*points, *(delivery.what for delivery in self._kept)]

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(SEND_EVERY_SECONDS)
            self._wake.clear()
            if not self.resting():
                self._flush_quietly()

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except TrackingError as error:  # told to the run at its next flush: a thread has nobody to tell
            self._refused = error

    def _send_points(self) -> None:
        while True:
            with self._lock:
                batch = self._points[:_POINTS_A_REQUEST]
            if not batch:
                return
            try:
                self._attempt(Delivery("points", lambda client, batch=batch: _send_batch(client, self._run_id, batch)))  # type: ignore[misc]
            except TrackingError as error:  # refused: keeping them would hold up all that follows
                self._refused = error
            with self._lock:
                del self._points[: len(batch)]

    def _send_kept(self) -> None:
        while self._kept:
            self._attempt(self._kept[0])
            with self._lock:
                self._kept.pop(0)

    def _attempt(self, delivery: Delivery) -> None:
        try:
            delivery.send(self._client)
        except _mlflow_errors() as error:
            if was_refused(error):
                raise TrackingError(
                    f"run {self._run_id}", Fault(f"MLflow refused {delivery.what}", redact(str(error)).strip())
                ) from error
            self._away_since = time.monotonic()
            raise ServerAwayError(str(error)) from error
        self._away_since = None

    def resting(self) -> bool:
        """Whether the server was away a moment ago and is not asked again yet."""
        return self._away_since is not None and time.monotonic() - self._away_since < REST_SECONDS

    def _write_down(self) -> None:
        """A copy on disk, so that even a killed process leaves its curves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            lines = [json.dumps(asdict(point)) for point in self._points]
        (self.folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class ServerAwayError(Exception):
    """The server did not take a delivery for a reason that may pass."""


def was_refused(error: Exception) -> bool:
    """Whether trying again is pointless: the server answered, and its answer was no."""
    return getattr(error, "error_code", None) in {
        "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "BAD_REQUEST",
        "PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND",
    }  # fmt: skip


def _mlflow_errors() -> tuple[type[Exception], ...]:
    import requests
    from mlflow.exceptions import MlflowException

    # OSError: an artifact store that is a folder or a socket. The disk of a local store may be full for a while too.
    return MlflowException, requests.RequestException, OSError


def _send_batch(client: MlflowClient, run_id: str, points: Sequence[MetricValue]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(point.key, point.value, point.timestamp_ms, point.step, model_id=point.model_id,
               dataset_name=point.dataset_name, dataset_digest=point.dataset_digest, run_id=run_id)
        for point in points
    ]  # fmt: skip
    client.log_batch(run_id, metrics=metrics, synchronous=True)
