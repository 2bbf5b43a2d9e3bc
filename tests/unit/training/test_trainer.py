from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tunery.errors import BaseModelError, Interrupted
from tunery.records.runs import StepMetrics, Trained
from tunery.training.checkpoints import latest_checkpoint

# 22 rows in batches of 2 x 2: 6 optimizer steps an epoch, the last of them with one micro batch less.
SETTINGS: dict[str, Any] = {
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 14,
    "checkpoints": 3,
    "weight_decay": 0.01,
}
MEASURED = ("train/tokens_per_second", "train/peak_memory_bytes")


def stop_at(step: int, number: signal.Signals = signal.SIGTERM) -> Callable[[StepMetrics], None]:
    def report(metrics: StepMetrics) -> None:
        if metrics.step == step and "train/loss" in metrics.values:
            os.kill(os.getpid(), number)

    return report


def curve(trained: Trained) -> list[tuple[int, dict[str, float]]]:
    """All that does not depend on the clock."""
    return [(e.step, {k: v for k, v in e.values.items() if k not in MEASURED}) for e in trained.history]


def assert_same_end(resumed: Any, trained: Trained, whole: Any, expected: Trained) -> None:
    assert curve(trained) == curve(expected)
    assert (trained.kept_step, trained.last_step) == (expected.kept_step, expected.last_step)
    left, right = resumed.weights(), whole.weights()
    assert all(torch.equal(left[name], right[name]) for name in right)


@pytest.mark.parametrize("step", [1, 4, 6, 13], ids=["first", "mid-epoch", "epoch end", "one before the end"])
def test_a_stopped_run_goes_on_bit_for_bit(bench: Any, step: int) -> None:
    whole = bench(rows=22, name="whole")
    expected = whole.fit(**SETTINGS)

    stopped = bench(rows=22, name="resumed")
    with pytest.raises(Interrupted, match=rf"SIGTERM at optimizer step {step + 1}|SIGTERM at optimizer step {step}"):
        stopped.fit(report=stop_at(step), **SETTINGS)

    resumed = bench(rows=22, name="resumed")  # a fresh process would start from here
    torch.rand(17)
    trained = resumed.fit(resume_from=latest_checkpoint(resumed.out), **SETTINGS)
    assert_same_end(resumed, trained, whole, expected)
    assert all(entry.step > step for entry in resumed.reported), "the earlier part is not reported again"


def test_a_run_stopped_between_two_points_of_the_curves_has_the_same_curves(bench: Any) -> None:
    settings = {**SETTINGS, "log_every_steps": 3}
    whole = bench(rows=22, name="whole")
    expected = whole.fit(**settings)
    stopped = bench(rows=22, name="resumed")
    with pytest.raises(Interrupted):
        stopped.fit(report=stop_at(3), **settings)
    checkpoint = latest_checkpoint(stopped.out)
    assert checkpoint is not None
    assert int(checkpoint.name.rpartition("-")[2]) % 3, "a checkpoint inside an interval"
    resumed = bench(rows=22, name="resumed")
    again = resumed.fit(resume_from=checkpoint, **settings)
    assert_same_end(resumed, again, whole, expected)


def test_a_run_with_a_checkpoint_each_epoch_goes_on_bit_for_bit_and_keeps_the_best(bench: Any) -> None:
    settings = {**SETTINGS, "max_steps": None, "epochs": 2.5, "checkpoints": "epoch", "keep_best_by": "score"}
    whole = bench(rows=22, name="whole")
    scores = iter([0.1, 0.9, 0.5])
    expected = whole.fit(score=lambda: next(scores), **settings)
    assert [entry.step for entry in expected.history if "validation/score" in entry.values] == [6, 12, 15]
    assert (expected.kept_step, expected.last_step) == (12, 15)
    stopped = bench(rows=22, name="resumed")
    with pytest.raises(Interrupted):
        stopped.fit(report=stop_at(8), score=lambda: 0.1, **settings)
    resumed = bench(rows=22, name="resumed")
    scores = iter([0.9, 0.5])
    trained = resumed.fit(resume_from=latest_checkpoint(resumed.out), score=lambda: next(scores), **settings)
    assert_same_end(resumed, trained, whole, expected)


@pytest.mark.parametrize(
    "settings", [{"packing": True}, {"optimizer": "paged_adamw_8bit"}, {"gradient_checkpointing": True}]
)
def test_packed_quantised_and_checkpointed_runs_go_on_bit_for_bit(bench: Any, settings: dict[str, Any]) -> None:
    settings = {**SETTINGS, "max_steps": 8, "keep_best_by": "last", **settings}
    whole = bench(rows=22, name="whole", quantization="nf4", dora=True)
    expected = whole.fit(**settings)
    stopped = bench(rows=22, name="resumed", quantization="nf4", dora=True)
    with pytest.raises(Interrupted):
        stopped.fit(report=stop_at(4), **settings)
    resumed = bench(rows=22, name="resumed", quantization="nf4", dora=True)
    trained = resumed.fit(resume_from=latest_checkpoint(resumed.out), **settings)
    assert_same_end(resumed, trained, whole, expected)


def test_full_fine_tuning_goes_on_bit_for_bit(bench: Any) -> None:
    settings = {**SETTINGS, "learning_rate": 1e-3, "max_steps": 8}
    whole = bench(rows=22, name="whole", method="full")
    expected = whole.fit(**settings)
    stopped = bench(rows=22, name="resumed", method="full")
    with pytest.raises(Interrupted):
        stopped.fit(report=stop_at(4), **settings)
    resumed = bench(rows=22, name="resumed", method="full")
    trained = resumed.fit(resume_from=latest_checkpoint(resumed.out), **settings)
    assert_same_end(resumed, trained, whole, expected)


def test_the_best_checkpoint_before_the_stop_is_still_the_best_after_it(bench: Any) -> None:
    scores = [0.9, 0.2, 0.1]
    made = bench(rows=22)
    with pytest.raises(Interrupted):
        made.fit(report=stop_at(7), keep_best_by="score", score=lambda: scores.pop(0), **SETTINGS)
    resumed = bench(rows=22)
    trained = resumed.fit(
        resume_from=latest_checkpoint(resumed.out), keep_best_by="score", score=lambda: scores.pop(0), **SETTINGS
    )
    assert trained.kept_step == 5
    assert scores == []


class InterruptedRows(tuple[Any, ...]):
    """Rows whose reading is interrupted."""

    def __iter__(self) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return super().__iter__()


def test_a_run_stopped_before_its_first_step_has_nothing_to_resume_from(bench: Any) -> None:
    made = bench()
    made.data = dataclasses.replace(made.data, train=InterruptedRows(made.data.train))
    with pytest.raises(Interrupted, match="SIGINT at optimizer step 0: no checkpoint was written yet"):
        made.fit()
    assert latest_checkpoint(made.out) is None


def test_a_finished_run_is_not_trained_further(bench: Any) -> None:
    made = bench()
    expected = made.fit()
    again = bench()
    trained = again.fit(resume_from=latest_checkpoint(again.out))
    assert again.reported == []
    assert_same_end(again, trained, made, expected)


def test_a_fresh_run_does_not_take_an_earlier_ones_checkpoints(bench: Any) -> None:
    bench().fit(max_steps=9)
    made = bench()
    made.fit(max_steps=2)
    assert latest_checkpoint(made.out) == made.out / "checkpoints" / "checkpoint-2"


def test_a_torn_checkpoint_cannot_be_resumed_from(bench: Any, tmp_path: Any) -> None:
    with pytest.raises(BaseModelError, match="is not a whole checkpoint"):
        bench().fit(resume_from=tmp_path)


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from tunery.errors import StorageError

    made = bench()
    honest = made.model.save_pretrained
    calls = 0

    def save_pretrained(*args: Any, **keys: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(*args, **keys)

    monkeypatch.setattr(made.model, "save_pretrained", save_pretrained)
    with pytest.raises(StorageError, match="the disk is full"):
        made.fit(checkpoints=3)
    assert latest_checkpoint(made.out) == made.out / "checkpoints" / "checkpoint-2"
