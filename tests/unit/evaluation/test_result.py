"""The run's score, restriction to a split, and the samples on disk."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.config.evaluation import EvaluationConfig
from tunery.evaluation.items import item_id, split_of
from tunery.evaluation.result import headline, restrict
from tunery.evaluation.samples import file_name, read_folder
from tunery.records.scores import Score, TaskResult, TaskSettings

SETTINGS = TaskSettings("colours", "1.0", 0, None, True)


def result(values: list[float], splits: list[str], tasks: list[str] | None = None, **changes: Any) -> TaskResult:
    samples = pd.DataFrame(
        {
            "item_id": [f"item{number}" for number in range(len(values))],
            "split": splits,
            "task": tasks or ["colours"] * len(values),
            "target": "red",
            "prediction": "blue",
            "acc": values,
            "loglikelihoods": [[-1.5, -2.0]] * len(values),
        }
    )
    score = Score("colours", "acc", sum(values) / len(values), 0.1, len(values))
    return dataclasses.replace(TaskResult(SETTINGS, {"acc": score}, samples, "acc"), **changes)


def one(value: float, **changes: Any) -> TaskResult:
    score = dataclasses.replace(Score("t", "acc", value, None, 3), **changes)
    return TaskResult(SETTINGS, {"acc": score}, pd.DataFrame(), "acc")


def test_the_score_is_the_mean_of_the_primary_metrics() -> None:
    evaluation = EvaluationConfig(tasks=["a", "b"])
    assert headline({"a": one(0.2), "b": one(0.6), "leaf of a group": one(0.99)}, evaluation) == pytest.approx(0.4)


def test_a_metric_of_which_less_is_better_counts_against_the_score() -> None:
    assert headline({"a": one(7.5, higher_is_better=False)}, EvaluationConfig(tasks=["a"])) == -7.5


def test_without_a_primary_score_there_is_no_score() -> None:
    assert headline({}, EvaluationConfig(tasks=[])) is None
    assert headline({}, EvaluationConfig(tasks=["a"])) is None


def test_a_restricted_result_has_the_mean_and_error_of_its_own_items() -> None:
    whole = result([1.0, 0.0, 1.0, 1.0, 0.0], ["dev", "dev", "dev", "locked", "locked"])
    dev = restrict(whole, "dev").scores["acc"]
    assert dev.value == pytest.approx(2 / 3)
    # By hand: deviations 1/3, -2/3, 1/3; variance 1/3; error sqrt(1/3 / 3).
    assert dev.stderr == pytest.approx(1 / 3)
    assert dev.items == 3
    assert list(restrict(whole, "locked").samples["item_id"]) == ["item3", "item4"]


def test_the_error_of_one_item_is_none() -> None:
    assert restrict(result([1.0, 0.0], ["dev", "locked"]), "dev").scores["acc"].stderr is None


def test_a_metric_that_is_not_the_mean_of_its_column_is_left_out() -> None:
    perplexity = Score("colours", "acc", 12.5, None, 2)
    assert restrict(result([1.0, 0.0], ["dev", "locked"], scores={"acc": perplexity}), "dev").scores == {}


def test_a_split_without_items_has_no_scores() -> None:
    assert restrict(result([1.0, 0.0], ["dev", "dev"]), "locked").scores == {}


def test_a_group_that_counts_its_tasks_equally_still_does_when_restricted() -> None:
    tasks = ["many", "many", "many", "many", "few", "few"]
    splits = ["dev", "dev", "dev", "locked", "dev", "locked"]
    means = (0.75 + 0.5) / 2
    whole = result([1.0, 1.0, 0.0, 1.0, 1.0, 0.0], splits, tasks, scores={"acc": Score("g", "acc", means, None, 6)})
    assert restrict(whole, "dev").scores["acc"].value == pytest.approx((2 / 3 + 1) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40))
def test_both_parts_weighted_by_their_items_give_the_whole(items: list[tuple[float, bool]]) -> None:
    whole = result([value for value, _ in items], ["dev" if dev else "locked" for _, dev in items])
    parts = [restrict(whole, split).scores.get("acc") for split in ("dev", "locked")]
    total = math.fsum(part.value * part.items for part in parts if part)
    assert total / len(items) == pytest.approx(whole.scores["acc"].value)


@given(st.text(), st.floats(0.05, 0.95))
def test_an_item_that_is_dev_stays_dev_when_the_share_grows(item: str, share: float) -> None:
    assert split_of(item, share) == "locked" or split_of(item, min(share + 0.05, 1.0)) == "dev"


def test_about_the_asked_share_of_the_items_is_dev() -> None:
    names = [item_id("t", {"question": number}, 0) for number in range(4000)]
    dev = sum(split_of(name, 0.3) == "dev" for name in names)
    # Four standard deviations of a binomial.
    assert abs(dev - 1200) < 4 * math.sqrt(4000 * 0.3 * 0.7)


def test_every_item_is_dev_at_a_share_of_one() -> None:
    assert {split_of(str(number), 1.0) for number in range(500)} == {"dev"}


def test_an_items_name_does_not_depend_on_the_order_of_its_fields() -> None:
    assert item_id("t", {"a": 1, "b": "ü"}, 0) == item_id("t", {"b": "ü", "a": 1}, 0)
    assert (
        len(
            {item_id("t", {"a": 1}, 0), item_id("u", {"a": 1}, 0), item_id("t", {"a": 2}, 0), item_id("t", {"a": 1}, 1)}
        )
        == 4
    )


def test_samples_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    found = result([1.0, 0.0], ["dev", "locked"])
    found.samples.to_parquet(tmp_path / file_name("group::colours/red"), index=False)
    (name, back), *rest = read_folder(tmp_path).items()
    assert (name, rest) == ("group::colours/red", [])
    back["loglikelihoods"] = back["loglikelihoods"].map(list)
    pd.testing.assert_frame_equal(back, found.samples, check_dtype=False)
