"""What identifies a study, and what is reported if the project has changed."""

from __future__ import annotations

import json

import pytest
from tests.unit.search.conftest import MakeProject

from tunery.search.study.definition import changes, describe_space

SPACE = "{adapter.rank: {choices: [8, 16]}, training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}"


def test_the_same_project_is_the_same_study(make: MakeProject) -> None:
    old = json.loads(json.dumps(describe_space(make(SPACE))))
    assert changes(old, describe_space(make(SPACE))) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"search__trials": "50"},
        {"search__finalists": "1"},
        {"search__seeds": "5"},
        {"search__timeout_seconds": "60"},
        {"search__memory": "24 GiB"},
        {"search__storage": "sqlite:///x.db"},
        {"name": "other"},
        {"promotion__min_gain": "0.1"},
    ],
)
def test_totals_limits_and_places_may_change(make: MakeProject, keys: dict[str, str]) -> None:
    assert changes(describe_space(make(SPACE)), describe_space(make(SPACE, **keys))) == []
    assert describe_space(make(SPACE)) == describe_space(make(SPACE, **keys))


@pytest.mark.parametrize(
    ("space", "keys", "expected"),
    [
        (SPACE, {"training__epochs": "3"}, ["training.epochs was 1.0, is now 3.0"]),
        (SPACE, {"evaluation__dev_fraction": "0.3"}, ["evaluation.dev_fraction was 0.5, is now 0.3"]),
        (SPACE, {"search__sampler": "random"}, ["search.sampler was tpe, is now random"]),
        (SPACE, {"search__seed": "1"}, ["search.seed was 0, is now 1"]),
        (SPACE, {"search__prune_by": "validation/nll"}, ["search.prune_by was score, is now validation/nll"]),
        (SPACE, {"search__constraints": "{score: '>= 0'}"}, ["search.constraints: score is new: >= 0"]),
        (
            SPACE,
            {"search__objectives": "{score: minimize}"},
            ["search.objectives: score was maximize, is now minimize"],
        ),
        (
            "{adapter.rank: {choices: [8, 32, 16]}, adapter.alpha: '2 * adapter.rank'}",
            {},
            [
                'search.space: adapter.rank was {"choices": [8, 16]}, is now {"choices": [8, 32, 16]}',
                'search.space: training.learning_rate was removed; it was {"low": 1e-05, "high": 0.001, "log": true}',
                "search.space: adapter.alpha is new: 2 * adapter.rank",
            ],
        ),
    ],
)
def test_what_changed_is_said(make: MakeProject, space: str, keys: dict[str, str], expected: list[str]) -> None:
    old, new = make(SPACE), make(space, **keys)
    assert changes(describe_space(old), describe_space(new)) == expected


def test_the_order_of_objectives_counts(make: MakeProject) -> None:
    one = make(SPACE, search__objectives="{score: maximize, train_seconds: minimize}")
    other = make(SPACE, search__objectives="{train_seconds: minimize, score: maximize}")
    assert changes(describe_space(one), describe_space(other)) == [
        "search.objectives: their order changed, and the first decides"
    ]


def test_the_order_of_the_space_does_not(make: MakeProject) -> None:
    lines = ["adapter.rank: {choices: [8, 16]}", "adapter.dora: {choices: [true, false]}"]
    one, other = make(f"{{{', '.join(lines)}}}"), make(f"{{{', '.join(lines[::-1])}}}")
    assert changes(describe_space(one), describe_space(other)) == []
    assert describe_space(one) == describe_space(other)


def test_other_known_good_settings_are_another_study(make: MakeProject) -> None:
    old = describe_space(make(SPACE), [{"adapter.rank": 8}])
    new = describe_space(make(SPACE), [{"adapter.rank": 16}])
    told = 'search.known_good, configuration 0 was {"adapter.rank": 8}, is now {"adapter.rank": 16}'
    assert changes(old, new) == [told]
    assert changes(old, describe_space(make(SPACE)))[0].startswith("search.known_good, configuration 0 was removed")
