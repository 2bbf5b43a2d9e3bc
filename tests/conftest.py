"""Settings that must be there before any library is imported."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

# No test fails because the machine is busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Read when the Hub's client is imported, which tests share.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Spinning threads make small tests on busy cores many times slower; see tunery/openmp.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Two tests run at once, on two cores as a rule: with two threads each, both take a sixth longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Under nohup, or in the background of a script, these are ignored; children would inherit that, and no test of a signal
# could pass.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first, so that the other process does not end long before."""
    items.sort(key=_longest_allowed, reverse=True)


def _longest_allowed(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take 6 s: made once, copied for each test."""
    from tunery.tracking.store import connect

    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "unset")  # connect() sets it: restored afterwards
        connect(f"sqlite:///{folder}/mlflow.db", "unused")
    return folder / "mlflow.db"
