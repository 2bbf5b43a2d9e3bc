from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from tunery.statistics.paired import paired_stderr
from tunery.tracking.scores import score_metrics


def test_paired_stderr_is_that_of_a_paired_t_test(make_result: Any) -> None:
    base, tuned = (0.1, 0.9, 0.4, 0.3, 0.8), (0.5, 0.7, 0.9, 0.3, 1.0)
    test = stats.ttest_rel(tuned, base)
    error = paired_stderr(make_result(values=base).samples, make_result(values=tuned).samples, "acc")
    mean = sum(after - before for before, after in zip(base, tuned, strict=True)) / 5
    assert error == pytest.approx(mean / test.statistic)


def test_items_are_paired_by_id_not_by_row(make_result: Any) -> None:
    base, tuned = make_result(values=(0.0, 1.0, 0.5)).samples, make_result(values=(1.0, 2.0, 1.5)).samples
    assert paired_stderr(base, tuned.iloc[::-1].reset_index(drop=True), "acc") == pytest.approx(0.0)


def test_results_on_other_items_have_a_difference_without_an_error(make_result: Any) -> None:
    found = score_metrics({"quiz": make_result(first=9)}, {"quiz": make_result()})["quiz"]
    assert "delta/quiz/acc" in found
    assert "delta/quiz/acc_stderr" not in found


def test_a_task_that_the_base_was_not_scored_on_has_no_difference(make_result: Any) -> None:
    assert set(score_metrics({}, {"quiz": make_result()})["quiz"]) == {
        "lm_eval/quiz/acc",
        "lm_eval/quiz/acc_stderr",
    }
