"""What a trial draws, and what its settings make of the project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution
from tests.unit.search.conftest import MakeProject, enqueue

from tunery.config.fields import field_at, number_type, value_at
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError
from tunery.search.checks import check_search
from tunery.search.space.parameters import short_text
from tunery.search.space.space import declared_settings, draw, labelled, name_of, own_settings, with_settings

CONDITIONAL = """{
  adapter.dora: {choices: [true, false]},
  adapter.rank: {choices: [8, 16], when: {adapter.dora: false}},
  adapter.dropout: {low: 0.0, high: 0.2, when: {adapter.dora: true, training.scheduler: [cosine, linear]}},
  adapter.alpha: '2 * adapter.rank',
}"""


def drawn(project: Project, seed: int = 0, **fixed: Any) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    if fixed:
        study.enqueue_trial({key.replace("__", "."): value for key, value in fixed.items()})
    return draw(study.ask(), project)


def test_a_number_is_drawn_as_its_field_holds_it(make: MakeProject) -> None:
    project = make("{adapter.rank: {low: 4, high: 64, log: true}, training.epochs: {low: 1, high: 3, step: 1}}")
    study = optuna.create_study()
    trial = study.ask()
    found = draw(trial, project)
    assert type(found["adapter.rank"]) is int
    assert type(found["training.epochs"]) is float
    assert trial.distributions == {
        "adapter.rank": IntDistribution(4, 64, log=True),
        "training.epochs": FloatDistribution(1.0, 3.0, step=1.0),
    }


def test_a_high_that_steps_pass_over_is_never_reached(make: MakeProject, recwarn: pytest.WarningsRecorder) -> None:
    project = make("{adapter.rank: {low: 1, high: 32, step: 5}}")
    found = {drawn(project, seed)["adapter.rank"] for seed in range(60)}
    assert found == {1, 6, 11, 16, 21, 26, 31}
    assert [str(warning.message) for warning in recwarn if "high" in str(warning.message)] == []


@pytest.mark.parametrize("dora", [True, False])
def test_a_condition_decides_whether_a_key_is_drawn(make: MakeProject, dora: bool) -> None:
    found = drawn(make(CONDITIONAL), adapter__dora=dora)
    assert ("adapter.dropout" in found, "adapter.rank" in found) == (dora, not dora)


def test_a_condition_sees_the_projects_value_of_a_key_that_is_not_drawn(make: MakeProject) -> None:
    project = make(CONDITIONAL, training__scheduler="constant")
    assert "adapter.dropout" not in drawn(project, adapter__dora=True)


def test_a_derived_key_follows_what_was_drawn_or_else_the_project(make: MakeProject) -> None:
    project = make(CONDITIONAL)
    assert drawn(project, adapter__dora=False, adapter__rank=8)["adapter.alpha"] == 16
    assert drawn(project, adapter__dora=True)["adapter.alpha"] == 32


def test_the_order_of_lines_does_not_change_what_is_drawn(make: MakeProject) -> None:
    lines = [
        "adapter.rank: {choices: [8, 16, 32]}",
        "training.epochs: {low: 1, high: 9}",
        "adapter.alpha: {low: 1, high: 99}",
    ]
    one = make(f"{{{', '.join(lines)}}}")
    other = make(f"{{{', '.join(reversed(lines))}}}")
    assert drawn(one, 5) == drawn(other, 5)


def test_a_whole_result_of_a_division_fits_a_whole_key(make: MakeProject) -> None:
    project = make("{adapter.rank: {choices: [8, 16]}, adapter.alpha: 'adapter.rank / 2'}")
    found = drawn(project, adapter__rank=8)
    assert (found["adapter.alpha"], with_settings(project, found).adapter.alpha) == (4, 4)


def test_a_result_that_does_not_fit_its_key_makes_no_project(make: MakeProject) -> None:
    project = make("{adapter.rank: {choices: [8, 16]}, adapter.alpha: 'adapter.rank / 3'}")
    with pytest.raises(ConfigError, match=r"rank=8.*adapter\.alpha is 2\.66.*whole number"):
        with_settings(project, drawn(project, adapter__rank=8))


def test_an_expression_without_a_value_names_its_key(make: MakeProject) -> None:
    project = make("{adapter.dropout: {choices: [0.0, 0.05]}, adapter.alpha: '1 / adapter.dropout'}")
    with pytest.raises(ConfigError, match=r"search\.space: adapter\.alpha: '1 / adapter\.dropout' has no value"):
        drawn(project, adapter__dropout=0.0)


def test_a_list_is_a_choice_like_any_other(make: MakeProject) -> None:
    project = make("{adapter.target_modules: {choices: [all-linear, [q_proj, v_proj]]}}")
    found = {str(drawn(project, seed)["adapter.target_modules"]) for seed in range(20)}
    assert found == {"all-linear", "['q_proj', 'v_proj']"}
    chosen = {"adapter.target_modules": ["q_proj", "v_proj"]}
    assert with_settings(project, chosen).adapter.target_modules == ["q_proj", "v_proj"]
    assert drawn(project, **labelled(project, chosen)) == chosen


def test_a_choice_is_kept_as_its_field_keeps_it(make: MakeProject) -> None:
    project = make("{training.learning_rate: {choices: ['2e-4', 1.0e-3]}}")
    check_search(project)
    assert own_settings(project) == {"training.learning_rate": 2e-4}


def test_a_key_in_a_list_is_searched_by_its_number(make: MakeProject) -> None:
    project = make("{data.train.1.weight: {low: 0.5, high: 2.0}}")
    check_search(project)
    changed = with_settings(project, {"data.train.1.weight": 0.75})
    assert [source.weight for source in changed.data.train] == [1.0, 0.75]


def test_the_first_trial_is_the_project_as_declared(make: MakeProject) -> None:
    project = make(CONDITIONAL, adapter__alpha="17")
    study = optuna.create_study()
    enqueue(study, project, 2)
    first = draw(study.ask(), project)
    assert first == {"adapter.dora": False, "adapter.rank": 16, "adapter.alpha": 17} == declared_settings(project)
    assert resolved(with_settings(project, first)) == resolved(project)
    assert study.trials[0].params == own_settings(project) == {"adapter.dora": False, "adapter.rank": 16}
    assert name_of(first, project) == "as declared"


def test_settings_leave_the_projects_folder_as_it_is(make: MakeProject) -> None:
    project = make("{adapter.rank: {choices: [8, 16]}}")
    assert with_settings(project, {"adapter.rank": 8}).folder == project.folder


def test_a_combination_that_is_not_allowed_names_the_trial(make: MakeProject) -> None:
    project = make("{base.quantization: {choices: [nf4, none]}, adapter.method: {choices: [lora, full]}}")
    check_search(project)
    with pytest.raises(ConfigError, match=r"trial quantization=nf4, method=full: base\.quantization is 'nf4'"):
        with_settings(project, {"adapter.method": "full", "base.quantization": "nf4"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "as declared"),
        ({"adapter.rank": 16}, "as declared"),
        ({"training.learning_rate": 0.00123456, "adapter.rank": 8}, "learning_rate=0.00123, rank=8"),
        ({"data.train.0.weight": 2.0, "data.train.1.weight": 0.5}, "0.weight=2, 1.weight=0.5"),
        ({"adapter.dora": True, "training.max_steps": None}, "dora=true"),
        ({"training.max_steps": 10, "adapter.target_modules": ["q", "v"]}, "max_steps=10, target_modules=q+v"),
    ],
)
def test_a_trial_is_named_by_what_differs(make: MakeProject, changed: dict[str, Any], expected: str) -> None:
    space = (
        "{training.learning_rate: {low: 1.0e-5, high: 1}, adapter.rank: {choices: [8, 16]}, "
        "data.train.0.weight: {low: 0.5, high: 2}, data.train.1.weight: {low: 0.5, high: 2}, "
        "adapter.dora: {choices: [true, false]}, training.max_steps: {choices: [null, 10]}, "
        "adapter.target_modules: {choices: [all-linear, [q, v]]}}"
    )
    assert name_of(changed, make(space)) == expected


def test_a_derived_key_is_named_only_where_nothing_else_differs(make: MakeProject) -> None:
    project = make("{adapter.rank: {choices: [8, 16]}, adapter.alpha: 2 * adapter.rank}", adapter__alpha="17")
    assert name_of({"adapter.rank": 8, "adapter.alpha": 16}, project) == "rank=8"
    assert name_of({"adapter.rank": 16, "adapter.alpha": 32}, project) == "alpha=32"
    assert name_of({"adapter.rank": 16, "adapter.alpha": 17}, project) == "as declared"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("adapter.rank", int),
        ("training.epochs", float),
        ("training.max_steps", int),
        ("data.train.0.weight", float),
        ("adapter.dora", None),
        ("training.scheduler", None),
        ("evaluation.chat_template", None),
        ("adapter.target_modules", None),
    ],
)
def test_a_key_knows_whether_it_holds_a_number(key: str, expected: type | None) -> None:
    field = field_at(Project, key)
    assert field is not None
    assert number_type(field) is expected


@pytest.mark.parametrize("key", ["adapter.rnak", "adapter.rank.deep", "data.train.weight", "data.train.x.weight", ""])
def test_a_key_that_is_none_has_no_field(key: str) -> None:
    assert field_at(Project, key) is None


_NUMBERS = st.floats(1e-6, 1e6)
_DIMENSIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "adapter.rank": st.lists(st.sampled_from([1, 2, 4, 8, 64]), min_size=1, unique=True).map(lambda v: {"choices": v}),
    "adapter.method": st.just({"choices": ["lora", "full"]}),
    "base.quantization": st.just({"choices": ["nf4", "none"], "when": {"adapter.method": ["lora", "full"]}}),
    "adapter.dora": st.just({"choices": [True, False], "when": {"adapter.method": "lora"}}),
    "training.learning_rate": st.tuples(_NUMBERS, _NUMBERS).map(
        lambda pair: {"low": min(pair), "high": max(pair) * 2, "log": True}
    ),
    "training.gradient_accumulation_steps": st.just({"low": 1, "high": 9, "step": 2}),
}
_EXPRESSIONS = st.sampled_from(
    ["2 * adapter.rank", "adapter.rank / 3", "1 / (adapter.rank - 4)", "round(training.learning_rate * 1000)"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=st.fixed_dictionaries({}, optional=_DIMENSIONS),
    alpha=st.none() | _EXPRESSIONS,
    seed=st.integers(0, 999),
)
def test_whatever_is_drawn_makes_a_project_or_a_config_error(
    make: Callable[..., Project], space: dict[str, Any], alpha: str | None, seed: int
) -> None:
    import json

    declared = space | ({"adapter.alpha": alpha} if alpha else {})
    project = make(json.dumps(declared))
    try:
        found = drawn(project, seed)
        changed = with_settings(project, found)
    except ConfigError:
        return
    tree = resolved(changed)
    assert {key: value_at(tree, key) for key in found} == found
    unsearched = {key for key in ("training.epochs", "adapter.dropout") if key not in found}
    assert all(value_at(tree, key) == value_at(resolved(project), key) for key in unsearched)


def test_a_long_choice_keeps_both_ends_in_a_trials_name() -> None:
    variants = [f"Write a meta-review of these reviews.\n{{reviews}} {end}:" for end in ("Summary", "Verdict")]
    names = [short_text(variant) for variant in variants]
    assert [(name[:6], name[-8:]) for name in names] == [("Write ", "Summary:"), ("Write ", "Verdict:")]
    assert max(map(len, names)) <= 48
    assert short_text("all-linear") == "all-linear"
