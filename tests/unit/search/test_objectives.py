"""What a trial is judged by, and how far it is from breaking a constraint."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.search.conftest import MakeProject

from tunery.errors import ConfigError, RunStopped
from tunery.search.checks import check_search
from tunery.search.objectives import check_metrics, check_task_metrics, constraint_values, objective_values, parse_bound

METRICS = {"score": 0.5, "peak_memory_bytes": 21 * 2.0**30, "delta/world_facts": -0.02, "train_seconds": 90.0}


def test_objectives_come_in_their_order() -> None:
    assert objective_values(METRICS, {"train_seconds": "minimize", "score": "maximize"}) == [90.0, 0.5]


def test_a_constraint_is_kept_when_its_value_is_not_above_0() -> None:
    kept = constraint_values(METRICS, {"peak_memory_bytes": "<= 22 GiB", "delta/world_facts": ">= -0.01"})
    assert kept == {"peak_memory_bytes": -(2.0**30), "delta/world_facts": pytest.approx(0.01)}


@given(limit=st.floats(-1e9, 1e9), value=st.floats(-1e9, 1e9))
def test_a_bound_is_broken_exactly_where_the_comparison_is_false(limit: float, value: float) -> None:
    assert (parse_bound("score", f"<= {limit!r}").excess(value) <= 0) == (value <= limit)
    assert (parse_bound("score", f">={limit!r}").excess(value) <= 0) == (value >= limit)


@pytest.mark.parametrize(
    ("metric", "text", "limit"),
    [
        ("peak_memory_bytes", "<= 22 GiB", 22 * 2**30),
        ("model_bytes", "<= 5e6", 5e6),
        ("train_seconds", " >=  3.5 ", 3.5),
    ],
)
def test_a_bound_is_read_in_the_units_of_its_metric(metric: str, text: str, limit: float) -> None:
    assert parse_bound(metric, text).limit == limit


@pytest.mark.parametrize("text", ["", "22 GiB", "< 3", "== 3", "<= ", "<= inf", ">= nan", "<= 3 seconds", "=> 3"])
def test_a_text_that_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bound("train_seconds", text)


TASKS = {"world_facts": {"acc": True, "acc_norm": True}, "reviews": {"both_sides_rate": False}}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"search__objectives": "{lm_eval/world_facts/accc: maximize}"}, "Did you mean 'lm_eval/world_facts/acc'?"),
        ({"search__constraints": "{delta/world_facts/f1: '>= 0'}"}, "'delta/world_facts/f1', which no trial has"),
    ],
)
def test_a_metric_that_its_task_does_not_have_is_found_without_training(
    make: MakeProject, keys: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_task_metrics(make(**keys), TASKS)
    assert told in str(caught.value)


def test_an_objective_that_looks_for_the_worst_is_refused(make: MakeProject) -> None:
    for metric in ("lm_eval/reviews/both_sides_rate", "delta/reviews/both_sides_rate"):
        check_task_metrics(make(search__objectives=f"{{{metric}: minimize}}"), TASKS)
        with pytest.raises(ConfigError, match="is 'maximize', but must be minimize: less of this metric is better"):
            check_task_metrics(make(search__objectives=f"{{{metric}: maximize}}"), TASKS)


def test_a_method_without_training_has_no_loss_to_be_judged_by(make: MakeProject) -> None:
    def told(**keys: str) -> str:
        with pytest.raises(ConfigError) as raised:
            check_search(make(keys.pop("space"), search__objectives="{validation/nll: minimize}", **keys))
        return str(raised.value)

    shown = {"training__method": "icl", "training__icl": "{examples: 4}", "adapter": "{}"}
    assert "training.method icl measures no loss" in told(space="{training.icl.examples: {choices: [4, 8]}}", **shown)
    both = "{training.method: {choices: [sft, icl]}}"
    assert "search.space.training.method changes what the loss is a mean of" in told(space=both)


@pytest.mark.parametrize(
    "metric", ["score", "delta/world_facts", "lm_eval/world_facts/acc_stderr", "lm_eval/elsewhere/f1", "model_bytes"]
)
def test_what_a_task_has_or_nobody_can_tell_passes(make: MakeProject, metric: str) -> None:
    check_task_metrics(make(search__objectives=f"{{{metric}: maximize}}"), TASKS)


def test_a_metric_that_the_trial_does_not_have_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"search\.objectives names 'scoer', which no trial has.*'score'"):
        objective_values(METRICS, {"scoer": "maximize"})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_a_failure_by_nan(value: float) -> None:
    with pytest.raises(RunStopped, match="score is") as caught:
        constraint_values({"score": value}, {"score": ">= 0"})
    assert caught.value.failure == "nan"


def test_metrics_are_checked_against_what_a_trial_produced(make: MakeProject) -> None:
    project = make(search__objectives="{score: maximize}", search__constraints="{delta/world_fact: '>= 0'}")
    with pytest.raises(ConfigError, match=r"search\.constraints names 'delta/world_fact'.*'delta/world_facts'"):
        check_metrics(project, METRICS)
    check_metrics(make(search__constraints="{delta/world_facts: '>= 0'}"), METRICS)
