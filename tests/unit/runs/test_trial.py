"""What a trial that ends badly leaves for the worker that takes it up."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.errors import Interrupted, NonFiniteLoss, StoreAway
from tunery.runs.observer import Observer
from tunery.runs.trial import TrialPlan, run_trial


@dataclass(frozen=True)
class Ending(TrialPlan):
    """A trial whose run needs no store."""

    def open(self, store: Any) -> Any:
        return nullcontext(SimpleNamespace(run_id="r1"))


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (StoreAway("postgresql://db", "MLflow: connection refused"), True),
        (Interrupted("SIGTERM", 4, resumable=True), True),
        (NonFiniteLoss(4, float("nan")), False),
    ],
)
def test_checkpoints_stay_where_the_trial_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kept: bool
) -> None:
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path))
    checkpoint = tmp_path / "runs" / "r1" / "checkpoints" / "checkpoint-4"

    def began(_: str) -> None:
        checkpoint.mkdir(parents=True)
        raise error

    unused: Any = None
    plan = Ending(project=unused, parent="p", name="0", began=began)
    with pytest.raises(type(error)):
        run_trial(plan, unused, unused, Observer())
    assert checkpoint.is_dir() is kept
