"""What a run has to tell a server that may be slow or away: sent in the background, kept until it arrives."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.errors import Fault, TrackingError
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# A point waits this long for company: a visit to a database costs far more than the points that it brings.
SEND_EVERY_SECONDS = 2.0
# After a failure nothing is tried for so long: a run must not stand still at every line that it wants to log.
REST_SECONDS = 5.0
_POINTS_A_REQUEST = 500  # MLflow takes 1000
# The server answered, and its answer was no: trying again is pointless.
_REFUSALS = {
    "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "BAD_REQUEST",
    "PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND",
}  # fmt: skip


class RetryQueue:
    """Points of curves and other deliveries of one run on their way.

    Points never block: a thread sends them in batches. A delivery is sent at once; when the server is away it is kept
    and sent later, in order. Sending a point twice is harmless: MLflow's key of a point is all of its values.

    Points that cannot be sent are also written into `folder`, which is made only then.
    """

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self._client, self._run_id, self.folder = client, run_id, folder
        # Both lists grow at their ends; only the holder of `_sending` takes from their fronts.
        self._points: list[Metric] = []
        self._kept: list[tuple[str, Callable[[], object]]] = []
        self._sending = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._away_since: float | None = None
        self._refused: TrackingError | None = None
        self._thread = threading.Thread(target=self._work, name="tunery-retry-queue", daemon=True)
        self._thread.start()

    def post(self, points: Iterable[Metric]) -> None:
        """Take points; they are sent within about two seconds."""
        self._points.extend(points)
        if len(self._points) >= _POINTS_A_REQUEST:
            self._wake.set()

    def deliver(self, what: str, send: Callable[[], object]) -> bool:
        """Send something, of which messages say `what`, now, unless the server is away; whether it arrived.

        Raises:
            TrackingError: If the server refuses what it was given.
        """
        return not self._resting() and self._arrived(what, send)

    def keep(self, what: str, send: Callable[[], object]) -> None:
        """Send later, when the server is back; `send` is called until it does not fail."""
        self._kept.append((what, send))

    def flush(self) -> bool:
        """Try to send all that waits; whether nothing waits any more.

        Raises:
            TrackingError: If the server refused a point.
        """
        with self._sending:
            if not (self._send_points() and self._send_kept()):
                with suppress(OSError):  # the folder may be as full as the store
                    self._write_copy()
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused
        return not self.waiting()

    def _write_copy(self) -> None:
        """Keep the points on disk, so that even a killed process leaves its curves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(dict(point)) for point in self._points]
        (self.folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def close(self, patience_seconds: float) -> list[str]:
        """Stop the thread and send the rest, trying again for `patience_seconds`; what could not be sent."""
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
        points = [f"{len(self._points)} points of the curves"] if self._points else []
        return [*points, *(what for what, _ in self._kept)]

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(SEND_EVERY_SECONDS)
            self._wake.clear()
            if not self._resting():
                try:
                    self.flush()
                except TrackingError as error:  # told to the run at its next flush: a thread has nobody to tell
                    self._refused = error

    def _send_points(self) -> bool:
        while batch := self._points[:_POINTS_A_REQUEST]:
            try:
                send = partial(self._client.log_batch, self._run_id, metrics=batch, synchronous=True)
                if not self._arrived("points", send):
                    return False
            except TrackingError as error:  # refused: keeping them would hold up all that follows
                self._refused = error
            del self._points[: len(batch)]
        return True

    def _send_kept(self) -> bool:
        while self._kept:
            if not self._arrived(*self._kept[0]):
                return False
            self._kept.pop(0)
        return True

    def _arrived(self, what: str, send: Callable[[], object]) -> bool:
        import requests
        from mlflow.exceptions import MlflowException

        try:
            send()
        # OSError: an artifact store that is a folder or a socket. A local store's disk may be full for a while too.
        except (MlflowException, requests.RequestException, OSError) as error:
            if getattr(error, "error_code", None) in _REFUSALS:
                fault = Fault(f"MLflow refused {what}", redact(str(error)).strip())
                raise TrackingError(f"run {self._run_id}", fault) from error
            self._away_since = time.monotonic()
            return False
        self._away_since = None
        return True

    def _resting(self) -> bool:
        """Whether the server was away a moment ago and is not asked again yet."""
        return self._away_since is not None and time.monotonic() - self._away_since < REST_SECONDS
