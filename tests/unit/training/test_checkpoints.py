from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.records.runs import StepMetrics
from tunery.training.checkpoints import (
    TrainingProgress,
    checkpoint_steps,
    damaged_checkpoints,
    latest_checkpoint,
    prune_checkpoints,
)


@given(st.integers(1, 100_000), st.integers(1, 50))
def test_checkpoints_are_evenly_spaced_and_the_last_is_at_the_end(total: int, wanted: int) -> None:
    steps = sorted(checkpoint_steps(total, wanted, epoch_steps=7))
    assert steps[-1] == total
    assert steps[0] >= 1
    assert len(steps) == min(wanted, total) or total < 2 * wanted
    gaps = [after - before for before, after in zip([0, *steps], steps, strict=False)]
    assert max(gaps) - min(gaps) <= 1 or total < 2 * wanted


@pytest.mark.parametrize(
    ("total", "epoch_steps", "steps"), [(12, 6, {6, 12}), (15, 6, {6, 12, 15}), (4, 6, {4}), (3, 1, {1, 2, 3})]
)
def test_checkpoints_by_epochs_are_at_each_end_and_at_the_end_of_a_part(
    total: int, epoch_steps: int, steps: set[int]
) -> None:
    assert checkpoint_steps(total, "epoch", epoch_steps) == steps


def whole(out: Path, step: int, best_step: int | None = None) -> Path:
    folder = out / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"moments")
    TrainingProgress("last", step=step, best_step=best_step).write(folder)
    return folder


def test_the_furthest_checkpoint_is_the_latest_by_number_not_by_name(tmp_path: Path) -> None:
    whole(tmp_path, 9)
    furthest = whole(tmp_path, 10)
    assert latest_checkpoint(tmp_path) == furthest


def test_torn_checkpoints_are_not_seen(tmp_path: Path) -> None:
    kept = whole(tmp_path, 3)
    (tmp_path / "checkpoints" / ".checkpoint-7.partial-41").mkdir()
    TrainingProgress("last").write(tmp_path / "checkpoints" / ".checkpoint-7.partial-41")
    (tmp_path / "checkpoints" / "checkpoint-9").mkdir()
    assert latest_checkpoint(tmp_path) == kept


@pytest.mark.parametrize("name", ["optimizer.pt", "progress.json"])
@pytest.mark.parametrize("left", [0, 4])
def test_a_checkpoint_that_was_cut_gives_way_to_the_one_before(tmp_path: Path, name: str, left: int) -> None:
    before, cut = whole(tmp_path, 3), whole(tmp_path, 6)
    (cut / name).write_bytes((cut / name).read_bytes()[:left])
    assert latest_checkpoint(tmp_path) == before
    assert damaged_checkpoints(tmp_path) == ["checkpoint-6"]


def test_a_checkpoint_whose_best_one_was_cut_cannot_end_the_run(tmp_path: Path) -> None:
    best = whole(tmp_path, 3, best_step=3)
    assert latest_checkpoint(tmp_path) == best
    whole(tmp_path, 6, best_step=3)
    (best / "optimizer.pt").unlink()
    assert latest_checkpoint(tmp_path) is None


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None


def test_only_the_steps_to_keep_stay_on_disk(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        whole(tmp_path, step)
    prune_checkpoints(tmp_path, {1, 3})
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-1", "checkpoint-3"]


def noted(keep_by: Any, values: list[float]) -> TrainingProgress:
    progress = TrainingProgress(keep_by)
    for step, value in enumerate(values, start=1):
        progress.note_checkpoint(step, value, value)
    return progress


@pytest.mark.parametrize(("keep_by", "best", "since"), [("validation/nll", 2, 2), ("score", 3, 1), ("last", 4, 0)])
def test_the_rule_chooses_lowest_loss_highest_score_or_the_last(keep_by: str, best: int, since: int) -> None:
    progress = noted(keep_by, [2.0, 1.0, 3.0, 1.0])
    assert (progress.best_step, progress.without_improvement) == (best, since)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 10**9))
def test_progress_survives_the_disk_bit_for_bit(tmp_path_factory: Any, value: float, nll: float, step: int) -> None:
    folder = tmp_path_factory.mktemp("progress")
    progress = TrainingProgress("score", [StepMetrics(step, {"train/loss": value})], step, seconds=nll)
    progress.validation_nll[step] = nll
    progress.write(folder)
    assert dataclasses.asdict(TrainingProgress.read(folder)) == dataclasses.asdict(progress)
