"""`tunery doctor`: what this machine, this installation and this store are, and which runs were left RUNNING."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata

from rich.table import Column, Table
from rich.text import Text

from tunery import __version__
from tunery.errors import RunHeld, TrackingError
from tunery.runs.observer import Observer
from tunery.runs.workdir import WorkFolder, home
from tunery.tracking.abandoned import Life, OpenRun, close, open_runs
from tunery.tracking.redact import redact
from tunery.tracking.store import Store, connect, is_there, store_address

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "lm-eval", "mlflow", "optuna", "datasets")
# Of each extra: a module that it brings.
_EXTRAS = {
    "chat": "gradio",
    "postgres": "psycopg2",
    "ray": "ray",
    "dashboard": "optuna_dashboard",
    "tensorboard": "tensorboard",
}
_NETWORK_SECONDS = 4.0
_RUN_ID = 32  # characters: one that is cut cannot be copied
# A lock of another machine is not seen on every shared file system (BeeGFS, Lustre): a run that wrote a point since is
# left alone, whoever holds its lock.
_RECENT_SECONDS = 600.0


def doctor(observer: Observer, *, mend: bool = False, tracking_uri: str | None = None) -> list[OpenRun]:
    """Show device, versions, extras, store and network in a table, then the runs that stand RUNNING.

    Args:
        observer: Is shown the tables.
        mend: Close the runs on which surely no process works.
        tracking_uri: MLflow store.

    Returns:
        The runs that stand RUNNING, as they were found.

    Raises:
        TrackingError: If the store cannot be used; after the table, which says so too.
    """
    failed: TrackingError | None = None
    store: Store | None = None
    found: list[OpenRun] = []
    address = store_address(tracking_uri)
    try:
        if is_there(address):
            store = connect(address, "Default")
            found = [_looked_up(run) for run in open_runs(store)]
            answer = f"{redact(address)} answers"
        else:
            answer = f"{redact(address)}: none yet, the first run makes it"
    except TrackingError as error:
        failed, answer = error, str(error)
    table = Table("what", "is", title="tunery doctor")
    for row in (*_machine(), *_installation(), ("store", answer), ("network", _network())):
        table.add_row(*map(Text, row))  # square brackets, as of an extra, are markup to rich
    observer.show(table)
    if failed is not None:
        raise failed
    if store is not None:
        _report_open(found, store, observer, mend=mend)
    return found


def _report_open(found: Sequence[OpenRun], store: Store, observer: Observer, *, mend: bool) -> None:
    if not found:
        observer.step("no run stands RUNNING")
        return
    table = Table(
        Column("run", no_wrap=True, min_width=_RUN_ID),
        "kind",
        "project",
        "name",
        "last sign (UTC)",
        "",
        title="runs that stand RUNNING",
    )
    for run in found:
        cells = (run.run_id, run.kind, run.project, run.name, _moment(run.last_sign_ms), run.life)
        table.add_row(*map(Text, cells))
    observer.show(table)
    left = [run for run in found if run.abandoned]
    for run in left if mend else ():
        observer.step(f"run {run.run_id} is {close(store, run)} now")
    if left and not mend:
        observer.step(f"{len(left)} of them were left by processes that died. Close them: tunery doctor --mend")


def _looked_up(run: OpenRun) -> OpenRun:
    """A run of which only its checkpoints on this machine tell: whoever trains it holds their lock."""
    folder, is_recent = WorkFolder.of(run.run_id), time.time() - run.last_sign_ms / 1000 < _RECENT_SECONDS
    if run.life is not Life.UNKNOWN or is_recent or not folder.path.is_dir():
        return run
    try:
        with folder.held():
            return replace(run, life=Life.ENDED)
    except RunHeld:
        return replace(run, life=Life.WORKING)


def _machine() -> Iterator[tuple[str, str]]:
    from tunery.models.device import available_bytes, resolve_device, resolve_precision

    device = resolve_device("auto")
    precision, free = resolve_precision("auto", device), available_bytes(device) / 2**30
    yield "device", f"{device}, {precision}, {free:.1f} GiB of memory"
    yield "system", f"Python {platform.python_version()}, {platform.platform()}"
    folder = next(place for place in (home(), *home().parents) if place.is_dir())
    written = "" if os.access(folder, os.W_OK) else ", which cannot be written"
    yield "checkpoints", f"{home()}{written}, {shutil.disk_usage(folder).free / 2**30:.1f} GiB free"


def _installation() -> Iterator[tuple[str, str]]:
    yield "tunery", __version__
    yield "packages", ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    for extra, module in _EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield f"extra {extra}", "installed" if there else f'pip install "tunery[{extra}]"'


def _network() -> str:
    from tunery.data.reading.hub import unreachable

    why = unreachable(_NETWORK_SECONDS)
    return "the Hub answers" if why is None else f"no Hub ({redact(why)}): its models and datasets come from the cache"


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"
